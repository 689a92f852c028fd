"""Where samples come from: what identifies them before anything is decoded, and how to read them one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.pictures import AskedRange, PictureRange
from contrastive_cli.data.images import Channels, Images
from contrastive_cli.data.reading import Reading
from contrastive_cli.data.scan import Labels, relative_names
from contrastive_cli.data.squares import resize_array

ALWAYS_FORGIVEN = 3  # bad files in a split: a part of a small one would be less than a file


@dataclass(frozen=True, kw_only=True, slots=True)
class BadFile:
    """A file that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """The samples of one split, in order.

    Attributes:
        labels: int64 [N], -1 where unknown.
        classes: Class names; empty if there are no labels.
        paths: Relative posix paths, or names of the same look where there are no files.
        read: Index -> uint8 [C, S, S]; raises BadImage. Called from several threads.
        unreadable: Folders that could not be listed.
    """

    labels: Labels
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    read: Callable[[int], Images]
    unreadable: tuple[BadFile, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A split that can be read.

    Attributes:
        identity: Changes when the files behind the split change; cheap to compute.
        load: Opens the files; called only when there is no valid cache.
        reading: How the folder was read, where the split is one of a folder.
        picture_range: By which pictures of more than eight bits are scaled; None if there are none.
        notes: What should be said of the pictures once.
    """

    name: str
    split: str
    size: int
    channels: Channels
    identity: tuple[str, ...]
    load: Callable[[], Samples]
    picture_range: PictureRange | None = None
    notes: tuple[str, ...] = ()
    reading: Reading | None = None


Layout = Literal["auto", "classes"]
LAYOUTS: tuple[Layout, ...] = ("auto", "classes")


def known_layout(word: str | None) -> Layout:
    """The layout that a person names; auto without one.

    Raises:
        UsageError: If it is none of the known ones.
    """
    if word is not None and word not in LAYOUTS:
        raise UsageError(f"--layout {word!r} is unknown; known are {', '.join(LAYOUTS)}")
    return "classes" if word == "classes" else "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeOptions:
    """How a folder is to be read, where its names do not say enough.

    Attributes:
        labels: CSV file of path and label, instead of class folders.
        unlabeled: Take no labels.
        layout: "classes" takes every folder for a class, whatever its name.
    """

    labels: Path | None = None
    unlabeled: bool = False
    layout: Layout = "auto"


AS_NAMED = TreeOptions()


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRequest:
    """What is asked of a dataset.

    Attributes:
        max_bad: Largest part of the files that may be undecodable.
        tree: How a folder is to be read.
        framing: How pictures become squares; None for the rule of this package.
    """

    name: str
    split: str
    data_dir: Path
    size: int
    channels: Channels
    seed: int
    max_bad: float = 0.01
    tree: TreeOptions = AS_NAMED
    picture_range: AskedRange = "auto"
    bands: tuple[int, ...] | None = None
    framing: Framing | None = None


def array_samples(
    images: Images,
    labels: Labels,
    *,
    classes: tuple[str, ...],
    prefix: str,
    size: int,
    framing: Framing | None = None,
    first: int = 0,
) -> Samples:
    """Samples of an array [N, C, H, W] that was read from an archive, resized one by one."""
    paths = tuple(f"{prefix}/{first + index:05d}" for index in range(len(images)))

    def read(index: int) -> Images:
        return resize_array(images[index], size=size, framing=framing)

    return Samples(labels=labels, classes=classes, paths=paths, read=read)


def stat_files(root: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """The place, size, time and readability of files; a file that was made readable counts as changed."""
    lines = [os.fspath(root.resolve())]
    for file, name in zip(files, relative_names(files, root), strict=True):
        try:
            status = file.stat()
            described = f"{status.st_size} {status.st_mtime_ns} {os.access(file, os.R_OK)}"
        except OSError as error:  # vanished since it was listed: decoding will record it
            described = f"errno {error.errno}"
        lines.append(f"{name} {described}")
    return tuple(lines)

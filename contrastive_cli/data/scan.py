"""Find the pictures in a folder tree, and everything that is none; draw splits of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.kinds import is_picture_content, is_picture_name, suffix_of

# Thumbnails, bins and leftovers of storage systems and archives, in lower case.
SKIPPED_FOLDERS = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@__thumb", "@transcode"),
        *(
            "@tmp",
            "$recycle.bin",
            "recycler",
            "system volume information",
            "lost+found",
            "lost.dir",
            "thumbs",
            "_thumbs",
        ),
        *("thumbnails", "_thumbnails", "__pycache__"),
    }
)
RUN_OF_CLR = "run of clr"
MAX_MANIFEST_BYTES = 10_000_000

Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FolderLabels:
    """Labels read off folder names.

    Attributes:
        labels: int64 [N], -1 where the file sits in no class folder.
        classes: Folder names, sorted; empty if there are fewer than two.
    """

    labels: Labels
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unused:
    """A file or folder that is not used: its path below the root, its kind for counting, and why."""

    path: str
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What a folder tree holds.

    Attributes:
        files: Pictures, sorted by path. A link to a picture that is not there is one: decoding it fails.
        others: Files of other kinds, and folders that are not entered.
        unreadable: Folders that could not be listed.
        linked_again: Links to folders that had been listed already.
    """

    files: list[Path] = field(default_factory=list)
    others: list[Unused] = field(default_factory=list)
    unreadable: list[Unused] = field(default_factory=list)
    linked_again: list[Path] = field(default_factory=list)


def scan_tree(root: Path) -> Scan:
    """List the pictures below a folder, and what is none.

    Links are followed, but each folder is listed once, so loops end. Real folders come before links: a folder that
    is also linked to keeps its own name (and so its class). Hidden names are passed over; thumbnails of storage systems
    and run directories of clr are not entered.

    Args:
        root: The folder.

    Raises:
        DataError: If `root` is not a folder that can be listed.
    """
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        raise DataError(
            f"cannot list folder {os.fspath(root)!r}: {error.strerror}", hint="see --data-dir", path=root
        ) from None
    scan = _Scanner(root=os.fspath(root))
    links = [os.fspath(root)]
    while links:
        links.sort(reverse=True)
        folders = [links.pop()]
        while folders:
            folder = folders.pop()
            try:
                scan.list_folder(folder, folders=folders, links=links)
            except OSError as error:
                reason = error.strerror or str(error)
                scan.unreadable.append(Unused(path=scan.relative(folder), kind="folder", reason=reason))
    return Scan(
        files=[Path(path) for path in sorted(scan.found)],
        others=sorted(scan.others, key=lambda other: other.path),
        unreadable=scan.unreadable,
        linked_again=[Path(path) for path in sorted(scan.linked_again)],
    )


def label_folders(owners: Sequence[str | None], *, classes: Sequence[str] | None = None) -> FolderLabels:
    """Number class folders, one a sample; None and folders outside `classes` become -1."""
    names = sorted({owner for owner in owners if owner is not None}) if classes is None else list(classes)
    if len(names) < 2:
        return FolderLabels(labels=np.full(len(owners), -1, dtype=np.int64), classes=())
    numbers = {name: number for number, name in enumerate(names)}
    labels = [-1 if owner is None else numbers.get(owner, -1) for owner in owners]
    return FolderLabels(labels=np.array(labels, dtype=np.int64), classes=tuple(names))


def relative_names(files: Sequence[Path], root: Path) -> list[str]:
    """The posix paths of files below `root`; far faster than pathlib, which counts with a million files.

    Raises:
        ValueError: If a file is not below `root`.
    """
    prefix = os.fspath(root)
    prefix = "" if prefix == "." else prefix.rstrip(os.sep) + os.sep
    names = []
    for file in files:
        text = os.fspath(file)
        if not text.startswith(prefix):
            raise ValueError(f"{text!r} is not below {prefix!r}")
        names.append(text[len(prefix) :])
    return names if os.sep == "/" else [name.replace(os.sep, "/") for name in names]


def stratified_split(labels: Labels, *, seed: int, test_fraction: float = 0.2) -> tuple[Labels, Labels]:
    """Split samples so that each class gives its share to the test part, rounded down or up.

    The samples are shuffled within their class, laid out class by class, and every 1/test_fraction-th is taken. A
    class with one sample stays in train; unlabeled samples (-1) count as a class, so without labels the split is
    plainly random. PCG64's raw stream is fixed for all NumPy versions, so the split never changes.

    Args:
        labels: int64 [N].
        seed: Same seed, same split.
        test_fraction: In (0, 0.5].

    Returns:
        Indices of the train and of the test part, int64, each ascending.

    Raises:
        ValueError: If `test_fraction` is outside its range.
    """
    if not 0 < test_fraction <= 0.5:
        raise ValueError(f"test_fraction must be in (0, 0.5], not {test_fraction}")
    generator = np.random.PCG64(seed)
    keys = generator.random_raw(len(labels))
    _, groups, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((keys, groups))
    order = order[counts[groups[order]] > 1]
    start = float(generator.random_raw()) / 2.0**64
    boundaries = np.floor(np.arange(len(order) + 1) * test_fraction + start)
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[order[np.diff(boundaries) > 0]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


@dataclass(slots=True)
class _Scanner:
    root: str
    found: list[str] = field(default_factory=list)
    others: list[Unused] = field(default_factory=list)
    unreadable: list[Unused] = field(default_factory=list)
    linked_again: list[str] = field(default_factory=list)
    visited: set[tuple[int, int]] = field(default_factory=set)

    def relative(self, path: str) -> str:
        name = path[len(self.root.rstrip(os.sep)) :].lstrip(os.sep)  # far faster than pathlib
        return (name if os.sep == "/" else name.replace(os.sep, "/")) or "."

    def list_folder(self, folder: str, *, folders: list[str], links: list[str]) -> None:
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in self.visited:
            self.linked_again.append(folder)
            return
        self.visited.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as listed:
            entries = [entry for entry in listed if not entry.name.startswith(".")]
        if any(entry.name == "manifest.json" for entry in entries) and _is_run(Path(folder)):
            self._pass_over(folder, kind=RUN_OF_CLR, reason="a run directory of clr, whose pictures are its figures")
            return
        for entry in entries:
            if _is_folder(entry):
                if entry.name.lower() in SKIPPED_FOLDERS:
                    self._pass_over(entry.path, kind=f"{entry.name}/", reason="thumbnails or leftovers")
                else:
                    (links if entry.is_symlink() else folders).append(entry.path)
            elif not _is_file(entry):
                if _is_broken_link(entry) and is_picture_name(entry.name):
                    self.found.append(entry.path)
                else:
                    self._pass_over(entry.path, kind="no regular file", reason="neither a file nor a folder")
            elif is_picture_name(entry.name) or (not suffix_of(entry.name) and is_picture_content(entry.path)):
                self.found.append(entry.path)
            else:
                kind = suffix_of(entry.name) or "without suffix"
                self._pass_over(entry.path, kind=kind, reason="no picture of a known kind")

    def _pass_over(self, path: str, *, kind: str, reason: str) -> None:
        self.others.append(Unused(path=self.relative(path), kind=kind, reason=reason))


def _is_run(folder: Path) -> bool:
    """Whether clr trained a model here: what it drew is no picture to learn from."""
    file = folder / "manifest.json"
    try:
        if not file.is_file() or file.stat().st_size > MAX_MANIFEST_BYTES:
            return False
        manifest = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"schema_version", "method", "total_steps"} <= manifest.keys()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()


def split_by_name(name: str, *, seed: int) -> Literal["train", "val", "test"]:
    """The part that a class belongs to, by a hash of its name: 60 % train, 10 % val, 30 % test.

    It depends on no other class, so the parts stay when classes are added.
    """
    digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "backslashreplace")).digest()
    share = int.from_bytes(digest[:8], "little") / 2**64
    return "train" if share < 0.6 else "val" if share < 0.7 else "test"

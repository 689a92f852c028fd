"""Where samples come from: what identifies them before anything is decoded, and how to read them one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.pictures import AskedRange, PictureRange
from contrastive_cli.data.images import Channels, Images, decode, resize_array
from contrastive_cli.data.ranges import survey_files
from contrastive_cli.data.scan import (
    SUFFIXES,
    FolderLabels,
    Labels,
    find_labels,
    find_splits,
    first_folders,
    label_folders,
    relative_names,
    scan_images,
    split_by_name,
    stratified_split,
)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked of a dataset."""

    name: str
    split: str
    data_dir: Path
    size: int
    channels: Channels
    seed: int
    picture_range: AskedRange = "auto"
    bands: tuple[int, ...] | None = None


def array_samples(
    images: Images, labels: Labels, *, classes: tuple[str, ...], prefix: str, size: int, first: int = 0
) -> Samples:
    """Samples of an array [N, C, H, W] that was read from an archive, resized one by one."""
    paths = tuple(f"{prefix}/{first + index:05d}" for index in range(len(images)))
    return Samples(
        labels=labels, classes=classes, paths=paths, read=lambda index: resize_array(images[index], size=size)
    )


def tree_source(request: Request, *, root: Path, whole_classes: bool = False) -> Source:
    """A split of a folder of images.

    Splits are the folders of that name if the tree has them, else "train" and "test" are drawn within each class
    with the seed of the request, or with `whole_classes` "train", "val" and "test" by the names of the classes, so
    that no class is in two; "all" is everything.

    Raises:
        DataError: If there are no images, or no such split.
    """
    unreadable: list[BadFile] = []

    def note(folder: Path, error: OSError) -> None:
        unreadable.append(BadFile(path=relative_names([folder], root)[0], reason=error.strerror or str(error)))

    splits = find_splits(root)
    if splits:
        files, labeled = _laid_out_split(request, root=root, splits=splits, note=note, whole_classes=whole_classes)
    else:
        files, labeled = _drawn_split(request, root=root, note=note, whole_classes=whole_classes)
    if not files:
        raise DataError(_nothing_found(root, request.split), hint=f"known suffixes: {' '.join(SUFFIXES)}", path=root)
    paths = tuple(relative_names(files, root))
    survey = survey_files(files, asked=request.picture_range, bands=request.bands)
    scaled = {"picture_range": survey.picture_range, "bands": request.bands}

    def read(index: int) -> Images:
        return decode(
            files[index],
            size=request.size,
            channels=request.channels,
            picture_range=survey.picture_range,
            bands=request.bands,
        )

    samples = Samples(
        labels=labeled.labels, classes=labeled.classes, paths=paths, read=read, unreadable=tuple(unreadable)
    )
    identity = (*stat_files(root, files), *labeled.classes, *(bad.path for bad in unreadable))
    identity += tuple(f"{key} {value}" for key, value in scaled.items() if value is not None)
    return Source(
        name=request.name,
        split=request.split,
        size=request.size,
        channels=request.channels,
        identity=identity,
        load=lambda: samples,
        picture_range=survey.picture_range,
        notes=survey.notes,
    )


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


_Note = Callable[[Path, OSError], None]


def _laid_out_split(
    request: Request, *, root: Path, splits: dict[str, Path], note: _Note, whole_classes: bool
) -> tuple[list[Path], FolderLabels]:
    drawn = ("train", "test", "val") if whole_classes else ("train", "test")
    if request.split in drawn and not {"test", "val"} & splits.keys():
        # All parts are drawn from it, so that they never overlap.
        return _drawn_split(request, root=splits["train"], note=note, whole_classes=whole_classes)
    asked = list(splits) if request.split == "all" else request.split.split("+")
    labeled = {folder for split, folder in splits.items() if split != "unlabeled"}
    files: list[Path] = []
    owners: list[str | None] = []
    for split in asked:
        # ImageNet and its like call their test part val.
        folder = splits.get(split) or (splits.get("val") if split == "test" else None)
        if folder is None:
            raise DataError(f"{root} has no split {split!r}; it has {', '.join(splits)}", path=root)
        found = scan_images(folder, on_unreadable=note)
        files += found
        owners += first_folders(found, folder) if folder in labeled else [None] * len(found)
    # The classes of all labeled splits, so that they are numbered alike in every split.
    classes = sorted({name for folder in labeled for name in _class_folders(folder)})
    return files, label_folders(owners, classes=classes)


def _class_folders(folder: Path) -> list[str]:
    """Folder names that can be classes; an empty folder is none."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))]
        return [name for name in names if any((folder / name).iterdir())]
    except OSError:
        return []


def _drawn_split(request: Request, *, root: Path, note: _Note, whole_classes: bool) -> tuple[list[Path], FolderLabels]:
    files = scan_images(root, on_unreadable=note)
    labeled = find_labels(root, files)
    if request.split == "all":
        return files, labeled
    drawn = ("train", "val", "test") if whole_classes else ("train", "test")
    if request.split not in drawn:
        known = ", ".join(drawn)
        raise DataError(
            f"{root} has no folder {request.split}", hint=f"without split folders there are {known}, all", path=root
        )
    if whole_classes:
        part_of = [split_by_name(name, seed=request.seed) for name in labeled.classes]
        parts = np.array([*part_of, "train"])  # the last is for files of no class, label -1
        kept = np.flatnonzero(parts[labeled.labels] == request.split)
    else:
        train, test = stratified_split(labeled.labels, seed=request.seed)
        kept = train if request.split == "train" else test
    return [files[index] for index in kept], FolderLabels(labels=labeled.labels[kept], classes=labeled.classes)


def _nothing_found(root: Path, split: str) -> str:
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries)[:3]
    except OSError:
        names = []
    seen = f"; it holds {', '.join(map(repr, names))}" if names else "; it is empty"
    return f"no images for split {split!r} in {os.fspath(root)!r}{seen}"

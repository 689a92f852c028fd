"""The pictures of a dataset as they lie, all splits side by side, without a cache of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import ClrError, DataError
from contrastive_cli.core.notes import note
from contrastive_cli.core.pictures import PictureRange
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.datasets import FOLDER_DATASET, find_dataset, find_source
from contrastive_cli.data.images import BadImage, Images, decode
from contrastive_cli.data.inspection import look_at_arrays, look_at_files
from contrastive_cli.data.looks import Look
from contrastive_cli.data.ranges import survey_files
from contrastive_cli.data.reading import Reading
from contrastive_cli.data.scan import Labels
from contrastive_cli.data.sources import BadFile, Samples, Source
from contrastive_cli.data.squares import resize_array
from contrastive_cli.data.trees import Tree, describe_splits, read_tree, split_tree
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.opening import tree_options


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pictures:
    """N pictures of all splits, not decoded.

    Attributes:
        dataset: Where they are from.
        names: Their paths below `root`, or names.
        split: The split of each.
        labels: int64 [N], -1 where unknown.
        classes: Class names, by label.
        drawn: Whether test is no folder, but is drawn from all pictures.
        root: The folder of the files; None if the pictures are in archives.
        files: The files, where each is one.
        read: Index -> uint8 [C, H, W] where there are no files.
        unreadable: Folders that could not be listed.
        reading: How the folder was read, where it is one.
        picture_range: By which pictures of more than eight bits are scaled.
    """

    dataset: DatasetConfig
    names: tuple[str, ...]
    split: tuple[str, ...]
    labels: Labels
    classes: tuple[str, ...]
    drawn: bool = False
    root: Path | None = None
    files: tuple[Path, ...] | None = None
    read: Callable[[int], Images] | None = None
    unreadable: tuple[BadFile, ...] = ()
    reading: Reading | None = None
    picture_range: PictureRange | None = None

    def looks(self, *, progress: CountProgress | None = None) -> Iterator[Look | BadFile]:
        """Look at all of them, in order."""
        if self.files is not None:
            return look_at_files(self.files, picture_range=self.picture_range, progress=progress)
        assert self.read is not None, "pictures without files are read"
        return look_at_arrays(self.names, self.read, progress=progress)

    def pixels(self, index: int, *, size: int | None, channels: int = 3) -> Images:
        """One picture decoded as a training does, uint8 [C, S, S]; whole where `size` is None.

        Raises:
            BadImage: If it cannot be decoded.
        """
        if self.files is not None:
            return decode(self.files[index], size=size, channels=channels, picture_range=self.picture_range)
        assert self.read is not None, "pictures without files are read"
        found = self.read(index)
        return found if size is None else resize_array(found, size=size)

    def class_of(self, index: int) -> str:
        """The name of its class; empty if it has none."""
        label = int(self.labels[index])
        return self.classes[label] if 0 <= label < len(self.classes) else ""


def open_pictures(dataset: DatasetConfig) -> Pictures:
    """Find all pictures of a dataset, and say how a folder was read.

    Raises:
        UsageError: If there is no such dataset.
        DataError: If there are no pictures, or the reading of the folder is doubtful.
    """
    if dataset.name == FOLDER_DATASET and dataset.data_dir is not None:
        return _of_tree(dataset, read_tree(dataset.data_dir, options=tree_options(dataset), max_bad=dataset.max_bad))
    found: list[tuple[str, Source]] = []
    absent: ClrError | None = None
    spec = find_dataset(dataset.name)
    for split in spec.splits:
        if split == "all" or "+" in split:  # the others together
            continue
        try:
            found.append((split, _source(dataset, split)))
        except DataError as error:
            absent = absent or error
    if not found:
        raise absent or DataError(f"{dataset.name} has no split")
    return _of_samples(dataset, [(split, source, source.load()) for split, source in found])


def _source(dataset: DatasetConfig, split: str) -> Source:
    spec = find_dataset(dataset.name)
    return find_source(
        dataset.name,
        split=split,
        data_dir=dataset.data_dir,
        size=spec.native_size or spec.size,
        download=dataset.download,
        max_bad=dataset.max_bad,
        tree=tree_options(dataset),
    )


def _of_tree(dataset: DatasetConfig, tree: Tree) -> Pictures:
    if not tree.files:
        unused = tree.reading.describe_unused()
        raise DataError(f"no images in {os.fspath(tree.root)!r}" + (f" ({unused})" if unused else ""), path=tree.root)
    parts = split_tree(tree, seed=0)
    reading = describe_splits(tree, parts)
    for line in reading.lines:
        note(line)
    chosen = np.concatenate(list(parts.values()))
    split = [name for name, members in parts.items() for _ in members]
    files = tuple(tree.files[index] for index in chosen)
    return Pictures(
        dataset=dataset,
        names=tuple(tree.names[index] for index in chosen),
        split=tuple(split),
        labels=tree.found.labels[chosen],
        classes=tree.found.classes,
        drawn="test" not in tree.layout.splits and "val" not in tree.layout.splits,
        root=tree.root,
        files=files,
        unreadable=tree.unreadable,
        reading=reading,
        picture_range=survey_files(files, asked=dataset.range, bands=None).picture_range,
    )


def _of_samples(dataset: DatasetConfig, parts: list[tuple[str, Source, Samples]]) -> Pictures:
    names = [name for _, _, samples in parts for name in samples.paths]
    classes = max((samples.classes for _, _, samples in parts), key=len)
    place = [(samples, index) for _, _, samples in parts for index in range(len(samples.paths))]
    root = next((source.reading.root for _, source, _ in parts if source.reading is not None), None)
    return Pictures(
        dataset=dataset,
        names=tuple(names),
        split=tuple(split for split, _, samples in parts for _ in samples.paths),
        labels=np.concatenate([_renumbered(samples, classes) for _, _, samples in parts]),
        classes=classes,
        root=root,
        files=None if root is None else tuple(root / name for name in names),
        read=lambda index: place[index][0].read(place[index][1]),
        unreadable=tuple(dict.fromkeys(bad for _, _, samples in parts for bad in samples.unreadable)),
        reading=next((source.reading for _, source, _ in parts if source.reading is not None), None),
        picture_range=parts[0][1].picture_range,
    )


def _renumbered(samples: Samples, classes: tuple[str, ...]) -> Labels:
    if samples.classes == classes or not samples.classes:
        return samples.labels
    numbers = {name: number for number, name in enumerate(classes)}
    table = np.array([*(numbers.get(name, -1) for name in samples.classes), -1], dtype=np.int64)
    return table[samples.labels]  # -1 is the last of the table


def thumbnails_of(pictures: Pictures, rows: NDArray[np.int64], *, size: int) -> tuple[Images, NDArray[np.bool_]]:
    """Small pictures uint8 [M, 3, size, size] of some rows, and which of them could be read [M]."""
    from contrastive_cli.data.packing import in_order

    def read(number: int) -> Images | None:
        try:
            return pictures.pixels(int(rows[number]), size=size)
        except BadImage:
            return None

    pixels = np.zeros((len(rows), 3, size, size), np.uint8)
    present = np.zeros(len(rows), np.bool_)
    for number, found in enumerate(in_order(read, len(rows))):
        if found is not None:
            pixels[number], present[number] = found[:3] if len(found) >= 3 else found[:1], True
    return pixels, present

"""The one reading of a folder of pictures, for every command that opens one, and the splits that are made of it."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.pictures import PictureRange
from contrastive_cli.core.wording import counted
from contrastive_cli.data.decodable import with_decodable
from contrastive_cli.data.images import BadImage, Images, decode
from contrastive_cli.data.kinds import picture_suffixes
from contrastive_cli.data.label_file import join_labels, read_labels
from contrastive_cli.data.layout import Layout, read_layout
from contrastive_cli.data.linked_splits import with_linked_splits
from contrastive_cli.data.ranges import survey_files
from contrastive_cli.data.reading import Reading, SplitReading
from contrastive_cli.data.scan import (
    FolderLabels,
    Labels,
    Unused,
    label_folders,
    relative_names,
    scan_tree,
    split_by_name,
    stratified_split,
)
from contrastive_cli.data.sources import (
    AS_NAMED,
    BadFile,
    Samples,
    Source,
    SplitRequest,
    TreeOptions,
    stat_files,
)

DRAWN_BY_CLASS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tree:
    """A folder of pictures, read.

    Attributes:
        files: All pictures, sorted by path.
        names: Their posix paths below the root.
        found: The labels of all of them, and the classes.
        layout: What the folders' names say.
        unreadable: Folders that could not be listed.
        identity: Changes with the file of labels.
        reading: All this in words; without the splits, which are drawn later.
    """

    root: Path
    files: tuple[Path, ...]
    names: tuple[str, ...]
    found: FolderLabels
    layout: Layout
    unreadable: tuple[BadFile, ...]
    identity: tuple[str, ...]
    reading: Reading


def read_tree(
    root: Path, *, options: TreeOptions = AS_NAMED, whole_classes: bool = False, max_bad: float = 0.01
) -> Tree:
    """Read a folder: which files are pictures, which folders are splits and classes.

    A class has at least one picture that can be decoded, in a split with labels.

    Args:
        root: The folder.
        options: What its names do not say.
        whole_classes: Whether the splits have different classes on purpose.
        max_bad: Largest part of the files that may be undecodable: larger classes need no look.

    Raises:
        DataError: If it cannot be listed, the reading is doubtful, or the file of labels does not fit.
    """
    scan = scan_tree(root)
    files = with_linked_splits(scan, root)
    names = relative_names(files, root)
    as_classes = options.layout == "classes"
    layout = read_layout(names, whole_classes=whole_classes, as_classes=as_classes)
    trusted = as_classes or options.unlabeled or options.labels is not None
    if layout.doubt is not None and not (trusted and not layout.doubt_is_of_splits):
        raise DataError(f"{os.fspath(root)}: {layout.doubt}", hint=layout.way_out, path=root)
    identity: tuple[str, ...] = ()
    note = ""
    if options.labels is not None:
        file = read_labels(options.labels)
        joined = join_labels(file, names, root=root, base=layout.base)
        found, identity = joined.found, (f"labels {file.sha256}",)
        if joined.rows_left:
            note = f"{joined.rows_left} rows of {file.path.name} name no picture"
    elif options.unlabeled:
        found, identity = label_folders([None] * len(files)), ("unlabeled",)
    else:
        owners = with_decodable(files, layout.owners, max_bad=max_bad, look=not whole_classes)
        found = label_folders(owners)
    used = None if options.labels is None else options.labels.resolve()
    others = [other for other in scan.others if used is None or (root / other.path).resolve() != used]
    reading = Reading(
        root=root,
        base=layout.base,
        folders=tuple(sorted({owner for owner in layout.owners if owner is not None})),
        classes=found.classes,
        labels=options.labels,
        taken=not options.unlabeled,
        note=note,
        unused=(*others, *_beside_splits(names, layout)),
    )
    unreadable = tuple(BadFile(path=folder.path, reason=folder.reason) for folder in scan.unreadable)
    return Tree(
        root=root,
        files=tuple(files),
        names=tuple(names),
        found=found,
        layout=layout,
        unreadable=unreadable,
        identity=identity,
        reading=reading,
    )


def tree_source(request: SplitRequest, *, root: Path, whole_classes: bool = False) -> Source:
    """A split of a folder of images.

    Splits are the folders of that name if the tree has them, else "train" and "test" are drawn within each class
    with the seed of the request, or with `whole_classes` "train", "val" and "test" by the names of the classes, so
    that no class is in two; "all" is everything.

    Raises:
        DataError: If there are no images, no such split, or the reading is doubtful.
    """
    tree = read_tree(root, options=request.tree, whole_classes=whole_classes, max_bad=request.max_bad)
    parts = split_tree(tree, seed=request.seed, whole_classes=whole_classes)
    chosen = _chosen(request, tree, parts)
    if not len(chosen) and request.split in parts and tree.files and not tree.layout.splits:
        raise DataError(
            f"no picture of {os.fspath(root)!r} is held out for the split {request.split!r}: a fifth of each class is, "
            f"and there are {counted(len(tree.files), 'picture')}",
            hint="add pictures, or put some of them into a folder `test` of their own",
            path=root,
        )
    if not len(chosen):
        raise DataError(
            _nothing_found(tree, request.split), hint=f"known suffixes: {' '.join(picture_suffixes())}", path=root
        )
    files = [tree.files[index] for index in chosen]
    survey = survey_files(files, asked=request.picture_range, bands=request.bands)
    scaled = {"picture_range": survey.picture_range, "bands": request.bands}
    samples = Samples(
        labels=tree.found.labels[chosen],
        classes=tree.found.classes,
        paths=tuple(tree.names[index] for index in chosen),
        read=functools.partial(_read, files, request, survey.picture_range),
        unreadable=tree.unreadable,
    )
    unreadable = (bad.path for bad in tree.unreadable)
    return Source(
        name=request.name,
        split=request.split,
        size=request.size,
        channels=request.channels,
        identity=(
            *stat_files(root, files),
            *tree.found.classes,
            *unreadable,
            *tree.identity,
            *(f"{key} {value}" for key, value in scaled.items() if value is not None),
        ),
        picture_range=survey.picture_range,
        notes=survey.notes,
        load=lambda: samples,
        reading=describe_splits(tree, parts, whole_classes=whole_classes),
    )


def split_tree(tree: Tree, *, seed: int, whole_classes: bool = False) -> dict[str, Labels]:
    """The positions of each split's files: those of its folder, or drawn where there is neither test nor val.

    All drawn parts are of one pool, so that they never overlap.
    """
    labels = tree.found.labels
    members = folder_parts(tree)
    if {"test", "val"} & members.keys():
        return members
    pool = members.pop("all") if "all" in members else members.pop("train")
    if whole_classes:
        part_of = [split_by_name(name, seed=seed) for name in tree.found.classes]
        parts = np.array([*part_of, "train"])[labels[pool]]  # the last is for files of no class, label -1
        return {**{split: pool[parts == split] for split in DRAWN_BY_CLASS}, **members}
    train, test = stratified_split(labels[pool], seed=seed)
    return {"train": pool[train], "test": pool[test], **members}


def folder_parts(tree: Tree) -> dict[str, Labels]:
    """The positions of the files of each split's folder; "all" of them where there are no such folders."""
    if not tree.layout.splits:
        return {"all": np.arange(len(tree.files))}
    parts = np.array([part or "" for part in tree.layout.parts])
    return {split: np.flatnonzero(parts == split) for split in tree.layout.splits}


def describe_splits(tree: Tree, parts: dict[str, Labels], *, whole_classes: bool = False) -> Reading:
    """The reading with the splits, where they come from, and what was held out."""
    folders = tree.layout.splits
    readings = {}
    for split, members in sorted(parts.items(), key=lambda item: _ORDER.index(item[0])):
        source = f"from {folders[split]}/" if split in folders else ""
        if split == "test" and not folders.get("test"):
            each = "of each class" if tree.found.classes else "of the pictures"
            source = "of other classes than train" if whole_classes else f"held out (a fifth {each})"
        labeled = int((tree.found.labels[members] >= 0).sum())
        readings[split] = SplitReading(count=len(members), labeled=labeled, source=source)
    notes = [tree.reading.note] if tree.reading.note else []
    if "val" in parts and "test" not in parts:
        notes.append("test is val")
    values = {name: getattr(tree.reading, name) for name in Reading.__dataclass_fields__}
    return Reading(**{**values, "splits": readings, "note": "; ".join(notes)})


_ORDER = ("all", "train", "val", "test", "unlabeled")


def _chosen(request: SplitRequest, tree: Tree, parts: dict[str, Labels]) -> Labels:
    if request.split == "all":
        is_part = [bool(not tree.layout.splits or part is not None) for part in tree.layout.parts]
        return np.flatnonzero(np.array(is_part, dtype=bool))
    asked = []
    for split in request.split.split("+"):
        # ImageNet and its like call their test part val.
        name = "val" if split == "test" and "test" not in parts and "val" in parts else split
        if name not in parts:
            known = ", ".join([*parts, "all"])
            if tree.layout.splits:
                raise DataError(f"{tree.root} has no split {split!r}; it has {known}", path=tree.root)
            raise DataError(
                f"{tree.root} has no folder {split}", hint=f"without split folders there are {known}", path=tree.root
            )
        asked.append(parts[name])
    return np.concatenate(asked)


def _read(files: Sequence[Path], request: SplitRequest, picture_range: PictureRange | None, index: int) -> Images:
    try:
        return decode(
            files[index],
            size=request.size,
            channels=request.channels,
            picture_range=picture_range,
            bands=request.bands,
            framing=request.framing,
        )
    except BadImage as error:
        if files[index].is_symlink() and not files[index].exists():
            raise BadImage(files[index], f"a link to {str(files[index].readlink())!r}, which is not there") from None
        raise error from None


def _beside_splits(names: Sequence[str], layout: Layout) -> list[Unused]:
    if not layout.splits:
        return []
    reason = "lies beside the folders of the splits"
    return [
        Unused(path=name, kind="pictures beside the splits", reason=reason)
        for name, part in zip(names, layout.parts, strict=True)
        if part is None
    ]


def _nothing_found(tree: Tree, split: str) -> str:
    try:
        with os.scandir(tree.root) as entries:
            names = sorted(entry.name for entry in entries)[:3]
    except OSError:
        names = []
    seen = f"; it holds {', '.join(map(repr, names))}" if names else "; it is empty"
    unused = tree.reading.describe_unused()
    return f"no images for split {split!r} in {os.fspath(tree.root)!r}{seen}" + (f" ({unused})" if unused else "")

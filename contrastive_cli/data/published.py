"""What the published datasets share: files as their authors pack them, or a folder tree of the same pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from contrastive_cli.data.archives import Archive, find_archive
from contrastive_cli.data.images import Channels
from contrastive_cli.data.layout import split_of
from contrastive_cli.data.sources import Source, SplitRequest
from contrastive_cli.data.spec import DatasetSpec
from contrastive_cli.data.trees import tree_source

TEN_DIGITS = tuple("0123456789")


def published(
    *,
    name: str,
    help: str,
    size: int,
    recipe: str,
    archive: Archive,
    fetch: Callable[[Path], None],
    channels: Channels = 3,
    pretrain_split: str = "train",
) -> DatasetSpec:
    """The entry of a dataset whose splits are files of an archive."""
    splits = (*archive.files, *(() if pretrain_split in archive.files else (pretrain_split,)))
    return DatasetSpec(
        name=name,
        help=help,
        channels=channels,
        native_size=size,
        size=size,
        recipe=recipe,
        classes=archive.classes,
        splits=splits,
        pretrain_split=pretrain_split,
        open=functools.partial(open_published, archive=archive),
        fetch=fetch,
        places=archive.folders,
        what="the folder that holds train/ and test/",
    )


def open_published(request: SplitRequest, *, archive: Archive) -> Source | None:
    """The split out of the archive's files, or out of a folder tree with train and test; None if neither is there."""
    source = find_archive(request, archive=archive)
    if source is not None:
        return source
    for root in (request.data_dir / request.name, request.data_dir):  # its own folder before any
        if _has_train_folder(root):
            return tree_source(request, root=root)
    return None


def _has_train_folder(root: Path) -> bool:
    """Whether a folder, or the one folder in it, has a folder for training beside another split or alone."""
    for _ in range(2):
        try:
            folders = [path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir()]
        except OSError:
            return False
        named = {named[0] for path in folders if (named := split_of(path.name)) is not None}
        if "train" in named:
            return len(named) > 1 or len(folders) == 1
        if len(folders) != 1:
            return False
        root = folders[0]
    return False

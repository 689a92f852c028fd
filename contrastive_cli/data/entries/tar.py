"""Tar shards in the layout of WebDataset. docs/shards.md says what they may look like."""

from __future__ import annotations

from contrastive_cli.data.shards import shard_source
from contrastive_cli.data.sources import Source, SplitRequest
from contrastive_cli.data.spec import DatasetSpec
from contrastive_cli.data.tar_shards import SUFFIXES, open_tar_shard


def open_tar(request: SplitRequest) -> Source:
    """A split of the shards."""
    return shard_source(request, suffixes=SUFFIXES, open_shard=open_tar_shard)


DATASET = DatasetSpec(
    name="tar",
    help="tar shards as WebDataset has them: --data-dir is their folder or 'shards/train-{000..146}.tar'",
    channels=3,
    native_size=None,
    size=96,
    recipe="simclr",
    classes=None,
    splits=("train", "val", "test", "all"),
    folder="needed",
    open=open_tar,
)

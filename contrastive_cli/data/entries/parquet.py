"""Parquet files with pictures and labels, as Hugging Face has them. docs/shards.md says what they may look like."""

from __future__ import annotations

import functools

from contrastive_cli.data.parquet_shards import SUFFIXES, Groups, open_parquet_shard
from contrastive_cli.data.shards import shard_source
from contrastive_cli.data.sources import Source, SplitRequest
from contrastive_cli.data.spec import DatasetSpec


def open_parquet(request: SplitRequest) -> Source:
    """A split of the files."""
    open_shard = functools.partial(open_parquet_shard, groups=Groups())
    return shard_source(request, suffixes=SUFFIXES, open_shard=open_shard)


DATASET = DatasetSpec(
    name="parquet",
    help="parquet files with a column of pictures, or of their paths, and one of labels; needs the extra parquet",
    channels=3,
    native_size=None,
    size=96,
    recipe="simclr",
    classes=None,
    splits=("train", "val", "test", "all"),
    folder="needed",
    open=open_parquet,
)

"""The images of a configuration: the one place where its fields become a split of a dataset."""

from __future__ import annotations

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.manifest import Manifest
from contrastive_cli.core.types import CountProgress, Say, silent
from contrastive_cli.data.cache import ImageSet, open_cached
from contrastive_cli.data.datasets import find_dataset, find_source
from contrastive_cli.data.sampling import Sampled, sample_images
from contrastive_cli.data.sources import Source, TreeOptions
from contrastive_cli.services.dataset_config import DatasetConfig


def open_images(
    dataset: DatasetConfig,
    *,
    split: str,
    size: int | None = None,
    framing: Framing | None = None,
    known: Manifest | None = None,
    progress: CountProgress | None = None,
    say: Say = silent,
) -> ImageSet:
    """Open a split at a side in pixels, or at the dataset's own; pictures are prepared as those of a `known` run.

    Raises:
        UsageError: If there is no such dataset or split.
        DataError: If the images are absent or unusable.
    """
    own = find_dataset(dataset.name).size
    source = _find(dataset, split=split, size=size or own, framing=framing, known=known)
    return open_cached(source, max_bad=dataset.max_bad, progress=progress, say=say)


def sample_split(dataset: DatasetConfig, *, split: str, size: int, framing: Framing | None = None) -> Sampled:
    """Some images of a split, without decoding the rest and without writing anything.

    Raises:
        UsageError: If there is no such dataset or split.
        DataError: If the images are absent or unusable.
    """
    offline = dataset.model_copy(update={"download": False})
    return sample_images(_find(offline, split=split, size=size, framing=framing))


def _find(
    dataset: DatasetConfig, *, split: str, size: int, framing: Framing | None, known: Manifest | None = None
) -> Source:
    return find_source(
        dataset.name,
        split=split,
        data_dir=dataset.data_dir,
        size=size,
        download=dataset.download,
        max_bad=dataset.max_bad,
        picture_range=dataset.range if known is None else known.range,
        bands=dataset.bands,
        framing=framing if known is None else known.decoded_framing,
        tree=tree_options(dataset),
    )


def tree_options(dataset: DatasetConfig) -> TreeOptions:
    """How a folder is to be read.

    Raises:
        UsageError: If labels are given, and none are to be taken.
    """
    if dataset.unlabeled and dataset.labels is not None:
        raise UsageError("--labels and --unlabeled exclude each other")
    return TreeOptions(labels=dataset.labels, unlabeled=dataset.unlabeled, layout=dataset.layout)

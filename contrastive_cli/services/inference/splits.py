"""The splits that a trained model is used on, and that they are still those it was trained beside."""

from __future__ import annotations

from pathlib import Path

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import DEFAULT_DATA_DIR, find_dataset, open_dataset
from contrastive_cli.services.configuration import DatasetConfig
from contrastive_cli.services.inference.model import Model


def is_own(model: Model, dataset: DatasetConfig | None) -> bool:
    """Whether this is the dataset that the run was trained on, by its name and its folder."""
    if dataset is None:
        return True
    places = ((place.name, (place.data_dir or DEFAULT_DATA_DIR).resolve()) for place in (model.config.dataset, dataset))
    return len(set(places)) == 1


def refuse_moved_split(model: Model, train: ImageSet, *, dataset: DatasetConfig | None) -> None:
    """Images added since would move the drawn split, and images of the training would be tested on.

    Raises:
        DataError: If the run's own dataset has other images in `train` now.
    """
    known = model.manifest.dataset
    if is_own(model, dataset) and known.split == train.split and known.fingerprint != train.fingerprint:
        raise DataError(
            f"the images of {train.name} are not those that {model.run.name} was trained on, so its test split moved",
            hint="bring the old images back, or evaluate on others with --data-dir",
        )


def open_split(
    model: Model, split: str, *, dataset: DatasetConfig | None = None, progress: CountProgress | None = None
) -> ImageSet:
    """Open a split of the run's dataset, or of another one whose images have as many channels.

    Raises:
        DataError: If the images are absent or have other channels than the encoder takes.
    """
    chosen = dataset or model.config.dataset
    images = open_dataset(
        chosen.name,
        split=split,
        data_dir=chosen.data_dir,
        size=model.manifest.decoded_size,
        download=chosen.download,
        max_bad=chosen.max_bad,
        picture_range=model.manifest.range,
        bands=chosen.bands,
        progress=progress,
    )
    if images.channels != model.channels:
        raise DataError(
            f"{chosen.name} has images of {images.channels} channels; {model.run.name} was trained on {model.channels}",
            hint="pretrain on this dataset, or choose another --run",
        )
    return images


def other_dataset(
    model: Model, *, name: str | None, data_dir: Path | None, download: bool, max_bad: float | None
) -> DatasetConfig:
    """The run's dataset with what --dataset, --data-dir, --download and --max-bad change of it."""
    own = model.config.dataset
    changed = own if name in (None, own.name) else DatasetConfig(name=str(name))
    find_dataset(changed.name)  # refuses an unknown name
    limit = changed.max_bad if max_bad is None else max_bad
    return changed.model_copy(update={"data_dir": data_dir or changed.data_dir, "download": download, "max_bad": limit})

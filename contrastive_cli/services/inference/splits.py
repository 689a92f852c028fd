"""The splits that a trained model is used on, and that they are still those it was trained beside."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.notes import note
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import DEFAULT_DATA_DIR, find_dataset
from contrastive_cli.data.own_datasets import name_dataset
from contrastive_cli.data.packing import image_digests
from contrastive_cli.data.reading import LABELS_HINT, listed
from contrastive_cli.data.sources import known_layout
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.model import Model
from contrastive_cli.services.opening import open_images, tree_options


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
    if not is_own(model, dataset) or known.split != train.split or known.fingerprint == train.fingerprint:
        return
    own = model.config.dataset
    if dataset is not None and tree_options(dataset) != tree_options(own):  # the same files with other labels?
        trained = open_split(model, known.split, dataset=own.model_copy(update={"data_dir": dataset.data_dir}))
        if known.fingerprint == trained.fingerprint and train.paths == trained.paths:
            return
        raise DataError(
            f"with these labels other images of {train.name} are held out than {model.run.name} was trained without",
            hint="pretrain with the same --labels or --unlabeled, or put the test images into a folder test/",
        )
    raise DataError(
        f"the images of {train.name} are not those that {model.run.name} was trained on, so its test split moved"
        f"{_newer_files(model, train)}",
        hint="bring the old images back, or evaluate on others with --data-dir",
    )


def _newer_files(model: Model, images: ImageSet) -> str:
    """The images that were written after the run began, as the end of a sentence."""
    if images.reading is None:
        return ""
    with contextlib.suppress(OSError, ValueError):
        started = datetime.fromisoformat(model.manifest.started).timestamp()
        root = images.reading.root
        newer = [path for path in images.paths if (root / path).stat().st_mtime > started]
        if newer:
            return f"; newer than the run: {listed(newer)}"
    return ""


def open_split(
    model: Model, split: str, *, dataset: DatasetConfig | None = None, progress: CountProgress | None = None
) -> ImageSet:
    """Open a split of the run's dataset, or of another one whose images have as many channels.

    Raises:
        DataError: If the images are absent or have other channels than the encoder takes.
    """
    chosen = dataset or model.config.dataset
    images = open_images(chosen, split=split, size=model.manifest.decoded_size, known=model.manifest, progress=progress)
    stands_for_all = images.channels == 1 and model.manifest.weights is not None
    if images.channels != model.channels and not stands_for_all:
        raise DataError(
            f"{chosen.name} has images of {images.channels} channels; {model.run.name} was trained on {model.channels}",
            hint="pretrain on this dataset, or choose another --run",
        )
    return images


def open_test_split(
    model: Model, *, dataset: DatasetConfig | None = None, progress: CountProgress | None = None
) -> ImageSet:
    """Open the labeled split that accuracies are measured on: `test_split`, or val where test has no labels.

    Raises:
        UsageError: If it is a split that was trained on.
        DataError: If the images are absent.
    """
    chosen = dataset or model.config.dataset
    if chosen.test_split in ("train", "all", find_dataset(chosen.name).pretrain_split):
        raise UsageError(
            f"--split {chosen.test_split} has the images that are trained on, and an accuracy on these says nothing",
            hint="give test or val",
        )
    images = open_split(model, chosen.test_split, dataset=dataset, progress=progress)
    if images.has_labels or chosen.test_split != "test" or "val" not in find_dataset(chosen.name).splits:
        return images
    with contextlib.suppress(DataError):
        val = open_split(model, "val", dataset=dataset, progress=progress)
        if val.has_labels:
            note(f"the test split of {images.name} has no labels{images.why_no_labels}; val is used in its place")
            return val
    return images


def require_labels(images: ImageSet, *, purpose: str) -> None:
    """Ask that a split has labels.

    Raises:
        DataError: With what was found instead, if it has none.
    """
    if not images.has_labels:
        raise DataError(
            f"split {images.split} of {images.name} has no labels, so nothing can be {purpose}{images.why_no_labels}",
            hint=LABELS_HINT if images.reading is not None else None,
        )


def note_equal_images(train: ImageSet, test: ImageSet) -> int:
    """Say how many test images are equal to images of train, pixel by pixel after decoding; returns how many."""
    known = set(image_digests(train.images))
    equal = [path for path, digest in zip(test.paths, image_digests(test.images), strict=True) if digest in known]
    if equal:
        note(
            f"warning: {len(equal)} of {test.num_samples} {test.split} images are equal to images of train, so the "
            f"accuracy is that of pictures seen before: {listed(equal)}"
        )
    return len(equal)


def other_dataset(
    model: Model,
    *,
    name: str | None,
    data_dir: Path | None,
    download: bool,
    max_bad: float | None,
    labels: Path | None = None,
    layout: str | None = None,
    unlabeled: bool = False,
    split: str | None = None,
) -> DatasetConfig:
    """The run's dataset with what --dataset, --data-dir, --download, --max-bad and the options of a folder change."""
    own = model.config.dataset
    named = None if name is None else name_dataset(name)
    changed = own if named in (None, own.name) else DatasetConfig(name=str(named))
    find_dataset(changed.name)  # refuses an unknown name
    if data_dir is not None and data_dir.absolute() != own.data_dir:
        changed = changed.model_copy(update={"labels": None})  # they name the pictures of the run's folder
    given = {
        "data_dir": data_dir,
        "max_bad": max_bad,
        "labels": None if labels is None else labels.absolute(),
        "unlabeled": unlabeled or None,
        "layout": None if layout is None else known_layout(layout),
        "test_split": split,
    }
    if labels is not None and unlabeled:
        raise UsageError("--labels and --unlabeled exclude each other")
    if labels is not None or unlabeled:  # the one replaces the other
        changed = changed.model_copy(update={"labels": None, "unlabeled": False})
    changes = {key: value for key, value in given.items() if value is not None}
    return changed.model_copy(update={**changes, "download": download})

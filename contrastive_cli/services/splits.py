"""What every row of an evaluation shares: the images, the labelled subsets, and how an accuracy is stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.embeddings.label_split import confidence_interval, label_subset, mean_interval
from contrastive_cli.services.configuration import DatasetConfig
from contrastive_cli.services.embedding import Model, open_split


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table: accuracy in [0, 1] on the test split, with a 95 % interval.

    The interval is over the seeds where there are several, else Wilson's for the test images.
    """

    features: str
    head: str
    label_fraction: float
    accuracy: float
    ci95: tuple[float, float]
    seeds: int
    labels: int
    accuracies: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Train and test images with labels."""

    train: ImageSet
    test: ImageSet

    def subsets(self, fraction: float, *, seeds: int) -> list[Tensor]:
        """The labelled training images of each seed, as positions; one list where all labels are used."""
        labels = torch.from_numpy(self.train.labels)
        return [label_subset(labels, fraction=fraction, seed=seed) for seed in range(1 if fraction == 1 else seeds)]

    @property
    def tested(self) -> Tensor:
        """[N] bool, the test images with a label."""
        return torch.from_numpy(self.test.labels) >= 0

    @property
    def test_labels(self) -> Tensor:
        """The labels of the tested images."""
        return torch.from_numpy(self.test.labels)[self.tested]


def open_splits(model: Model, *, dataset: DatasetConfig | None = None) -> Splits:
    """Open train and test of the run's dataset, or of another one.

    Raises:
        DataError: If a split has no labels, or the run's own images are not those that it was trained on.
    """
    train = open_split(model, "train", dataset=dataset)
    test = open_split(model, "test", dataset=dataset)
    for images in (train, test):
        if not images.has_labels:
            raise DataError(
                f"split {images.split} of {images.name} has no labels, so nothing can be evaluated",
                hint="put the images of each class in a folder of their own",
            )
    if not np.isin(test.labels[test.labels >= 0], train.labels).any():
        raise DataError(
            f"no class of the test split of {test.name} occurs in train, so no head can name it",
            hint="`clr similarity --pairs` evaluates by pairs; `clr datasets NAME --save-pairs FILE` makes them",
        )
    _refuse_moved_split(model, train, dataset)
    return Splits(train=train, test=test)


def make_row(
    *, features: str, head: str, fraction: float, predictions: Sequence[Tensor], targets: Tensor, labels: int
) -> Row:
    """A row from the predicted classes [N] of every seed."""
    accuracies = tuple(float((predicted.cpu() == targets).double().mean()) for predicted in predictions)
    correct = round(accuracies[0] * len(targets))
    low, high = mean_interval(accuracies) if len(accuracies) > 1 else confidence_interval(correct, len(targets))
    return Row(
        features=features,
        head=head,
        label_fraction=fraction,
        accuracy=sum(accuracies) / len(accuracies),
        ci95=(max(0.0, float(low)), min(1.0, float(high))),
        seeds=len(accuracies),
        labels=labels,
        accuracies=accuracies,
    )


def _refuse_moved_split(model: Model, train: ImageSet, dataset: DatasetConfig | None) -> None:
    """Images added since would move the drawn split, and images of the training would be tested on."""
    known = model.manifest.dataset
    if dataset in (None, model.config.dataset) and known.split == "train" and known.fingerprint != train.fingerprint:
        raise DataError(
            f"the images of {train.name} are not those that {model.run.name} was trained on, so its test split moved",
            hint="bring the old images back, or evaluate on others with --data-dir",
        )

"""What every row of an evaluation shares: the images, the labeled subsets, and how an accuracy is stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.notes import note
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.embeddings.probes.class_shares import balanced_accuracy, largest_share
from contrastive_cli.embeddings.probes.label_subsets import confidence_interval, label_subset, mean_interval
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.model import Model
from contrastive_cli.services.inference.splits import (
    is_own,
    note_equal_images,
    open_split,
    open_test_split,
    refuse_moved_split,
    require_labels,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table: accuracy in [0, 1] on the test split, with a 95 % interval.

    The interval is Wilson's for the number of test images; where there are several seeds it is widened to hold that of
    their mean too. `label_fraction` is what was asked for, `label_share` what was given: one a class at least.
    `largest_class` is the share of the largest class in test, which is the accuracy of always naming it;
    `balanced_accuracy` the mean over the classes of test, None where they are equally large.
    """

    features: str
    head: str
    label_fraction: float
    accuracy: float
    ci95: tuple[float, float]
    seeds: int
    labels: int
    label_share: float
    accuracies: tuple[float, ...]
    largest_class: float
    balanced_accuracy: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Train and test images with labels; `own` if they are of the dataset that the run was trained on."""

    train: ImageSet
    test: ImageSet
    own: bool

    def subsets(self, fraction: float, *, seeds: int) -> list[Tensor]:
        """The labeled training images of each seed, as positions [L]; one list where all labels are used."""
        labels = torch.from_numpy(self.train.labels)
        first = label_subset(labels, fraction=fraction, seed=0)
        if len(first) == int((labels >= 0).sum()):
            return [first]
        return [first, *(label_subset(labels, fraction=fraction, seed=seed) for seed in range(1, seeds))]

    @property
    def tested(self) -> Tensor:
        """[N] bool, the test images with a label."""
        return torch.from_numpy(self.test.labels) >= 0

    @property
    def test_labels(self) -> Tensor:
        """The labels of the tested images, int64 [T]."""
        return torch.from_numpy(self.test.labels)[self.tested]


def open_splits(model: Model, *, dataset: DatasetConfig | None = None) -> Splits:
    """Open train and test of the run's dataset, or of another one.

    Raises:
        DataError: If a split has no labels, or the run's own images are not those that it was trained on.
    """
    train = open_split(model, "train", dataset=dataset)
    test = open_test_split(model, dataset=dataset)
    for images in (train, test):
        require_labels(images, purpose="evaluated")
    if not np.isin(test.labels[test.labels >= 0], train.labels).any():
        raise DataError(
            f"no class of the test split of {test.name} occurs in train, so no head can name it",
            hint="`clr similarity --pairs` evaluates by pairs; `clr datasets NAME --save-pairs FILE` makes them",
        )
    refuse_moved_split(model, train, dataset=dataset)
    note_missing_classes(train, test)
    note_equal_images(train, test)
    return Splits(train=train, test=test, own=is_own(model, dataset))


def note_missing_classes(train: ImageSet, test: ImageSet) -> None:
    """Say when the test split shows fewer classes than there are in train."""
    tested, trained = (len(np.unique(images.labels[images.labels >= 0])) for images in (test, train))
    if tested < trained:
        note(f"warning: the {test.split} split has images of {tested} of {trained} classes")


def make_row(
    splits: Splits, *, features: str, head: str, fraction: float, predictions: Sequence[Tensor], labels: int
) -> Row:
    """A row from the classes [N] that are predicted for the tested images with the labels of every seed."""
    targets = splits.test_labels
    accuracies = tuple(float((predicted.cpu() == targets).double().mean()) for predicted in predictions)
    accuracy = sum(accuracies) / len(accuracies)
    low, high = confidence_interval(round(accuracy * len(targets)), len(targets))
    if len(accuracies) > 1:
        seeds_low, seeds_high = mean_interval(accuracies)
        low, high = min(low, seeds_low), max(high, seeds_high)
    return Row(
        features=features,
        head=head,
        label_fraction=fraction,
        accuracy=accuracy,
        ci95=(max(0.0, float(low)), min(1.0, float(high))),
        seeds=len(accuracies),
        labels=labels,
        label_share=labels / int((splits.train.labels >= 0).sum()),
        accuracies=accuracies,
        largest_class=largest_share(targets),
        balanced_accuracy=balanced_accuracy(targets, [predicted.cpu() for predicted in predictions]),
    )

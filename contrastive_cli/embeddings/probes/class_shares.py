"""What an accuracy is to be compared with where classes are not equally large."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ALIKE = 1  # a drawn split rounds each class up or down


def largest_share(targets: Tensor) -> float:
    """The share of the largest class among labels [N]: the accuracy of always naming it."""
    counts = torch.bincount(targets)
    return float(counts.max()) / len(targets)


def balanced_accuracy(targets: Tensor, predictions: Sequence[Tensor]) -> float | None:
    """The mean over classes of the part of a class that is named rightly, averaged over predictions.

    Args:
        targets: int64 [N], labels.
        predictions: int64 [N] each.

    Returns:
        In [0, 1]; None where the classes are equally large, and so the accuracy is the same.
    """
    counts = torch.bincount(targets)
    occurring = counts > 0
    if int(counts[occurring].max() - counts[occurring].min()) <= ALIKE:
        return None
    means = []
    for predicted in predictions:
        right = torch.bincount(targets[predicted == targets], minlength=len(counts))
        means.append(float((right[occurring] / counts[occurring]).double().mean()))
    return sum(means) / len(means)

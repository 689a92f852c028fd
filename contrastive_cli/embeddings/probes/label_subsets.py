"""Splits that keep the classes in proportion, and intervals that say how sure a score is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

import numpy as np
import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError


def label_subset(labels: Tensor, *, fraction: float, seed: int) -> Tensor:
    """Choose a fraction of every class, at least one sample of each, never an unlabeled one (-1).

    With one seed a smaller fraction is contained in a larger one.

    Args:
        labels: [N] integers.
        fraction: In (0, 1].
        seed: The same seed chooses the same samples.

    Returns:
        Sorted positions, int64, on the CPU.

    Raises:
        ValueError: If the fraction is not in (0, 1].
        DataError: If no sample has a label.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], not {fraction}")
    members = shuffled_classes(labels, seed=seed)
    if not members:
        raise DataError("no sample has a label, so none can be chosen by class")
    return torch.cat([ones[: max(1, math.floor(fraction * len(ones) + 0.5))] for ones in members]).sort().values


def stratified_folds(labels: Tensor, *, num_folds: int, seed: int) -> Tensor:
    """Number the samples [N] with folds 0 .. num_folds - 1, each class spread evenly; -1 for a class of one sample."""
    folds = torch.full((len(labels),), -1)
    dealt = 0  # goes on from class to class, so that small classes do not all end in the first folds
    for ones in shuffled_classes(labels, seed=seed):
        if len(ones) > 1:
            folds[ones] = torch.arange(dealt, dealt + len(ones)) % num_folds
            dealt += len(ones)
    return folds


def shuffled_classes(labels: Tensor, *, seed: int) -> list[Tensor]:
    """The positions of each class of `labels` [N], shuffled by seed and class alone; unlabeled ones are left out."""
    known = labels.cpu().numpy()
    return [
        torch.from_numpy(np.random.default_rng((seed, int(label))).permutation(np.flatnonzero(known == label)))
        for label in np.unique(known[known >= 0])
    ]


def confidence_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion by Wilson 1927, doi:10.1080/01621459.1927.10502953; both ends in [0, 1].

    Raises:
        ValueError: If not 0 <= correct <= total, or total is 0.
    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"no interval for {correct} correct of {total}")
    z = NormalDist().inv_cdf(0.975)
    rate, shrink = correct / total, 1 + z * z / total
    middle = (rate + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    low = 0.0 if correct == 0 else middle - half  # exact at the ends, where rounding would leave 1e-18
    return low, 1.0 if correct == total else middle + half


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of a few seeds, by Student's t with len(values) - 1 degrees of freedom.

    Raises:
        ValueError: If there are fewer than two values.
    """
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError(f"an interval of the mean needs at least 2 values, not {len(values)}")
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half

"""Verification: do two images show the same? ROC, equal error rate, and accuracy by folds. Numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastive_cli.core.errors import DataError

FOLDS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The ROC curve: what is called the same at a falling threshold, "same" meaning a score of at least it.

    Attributes:
        thresholds: [T], falling; the first is infinite, the others are the distinct scores.
        false_positive_rate: [T], part of the different pairs called the same, rising from 0 to 1.
        true_positive_rate: [T], part of the same pairs called the same, rising from 0 to 1.
    """

    thresholds: Floats
    false_positive_rate: Floats
    true_positive_rate: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """How well scores tell same pairs from different ones.

    Attributes:
        auc: Area under the ROC curve, in [0, 1]; a half is chance.
        eer: Equal error rate, in [0, 1].
        accuracy: Mean over folds, each judged with the threshold that is best on the others.
        accuracy_error: Standard error of that mean.
        threshold: The threshold that is best on all pairs, to be used on others.
        folds: How many, 10 unless there are too few pairs of a kind.
        pairs: How many.
        same: How many of them are the same.
    """

    auc: float
    eer: float
    accuracy: float
    accuracy_error: float
    threshold: float
    folds: int
    pairs: int
    same: int


def verify(scores: ArrayLike, same: ArrayLike, *, seed: int = 0) -> tuple[Verification, Curve]:
    """Judge scores [N], higher for pairs that are more alike, by what is true of them: booleans [N].

    The folds are drawn with the seed, each with its share of both kinds (LFW's own lists of pairs fix them instead).

    Raises:
        DataError: If the lengths differ, a score is not finite, or a kind has fewer than 2 pairs.

    Source: Huang et al., "Labeled Faces in the Wild", 2007, section III (accuracy over 10 folds).
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape or not np.isfinite(values).all():
        raise DataError(f"needs as many finite scores as truths, not shapes {values.shape} and {truth.shape}")
    fewest = int(min(truth.sum(), (~truth).sum()))
    if fewest < 2:
        raise DataError(
            f"{int(truth.sum())} same and {int((~truth).sum())} different pairs: at least 2 of each are needed"
        )
    folds = min(FOLDS, fewest)
    accuracies = fold_accuracies(values, truth, folds=folds, seed=seed)
    curve = roc_curve(values, truth)
    verification = Verification(
        auc=area_under(curve),
        eer=equal_error_rate(curve),
        accuracy=float(accuracies.mean()),
        accuracy_error=float(accuracies.std(ddof=1) / math.sqrt(folds)),
        threshold=best_threshold(values, truth),
        folds=folds,
        pairs=len(values),
        same=int(truth.sum()),
    )
    return verification, curve


def roc_curve(scores: Floats, same: NDArray[np.bool_]) -> Curve:
    """The whole curve of scores [N] with both kinds of pairs; equal scores are one step."""
    distinct, positives, negatives = _by_score(scores, same)
    return Curve(
        thresholds=np.concatenate([[np.inf], distinct]),
        false_positive_rate=np.concatenate([[0.0], np.cumsum(negatives) / negatives.sum()]),
        true_positive_rate=np.concatenate([[0.0], np.cumsum(positives) / positives.sum()]),
    )


def area_under(curve: Curve) -> float:
    """The area under the curve: the chance that a same pair scores above a different one, ties counting half."""
    heights = (curve.true_positive_rate[1:] + curve.true_positive_rate[:-1]) / 2
    return float(np.sum(np.diff(curve.false_positive_rate) * heights))


def equal_error_rate(curve: Curve) -> float:
    """Where as many same pairs are missed as different ones let through, on straight lines between the points."""
    gap = curve.false_positive_rate - (1 - curve.true_positive_rate)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    part = gap[after - 1] / (gap[after - 1] - gap[after])
    rates = curve.false_positive_rate
    return float(rates[after - 1] + part * (rates[after] - rates[after - 1]))


def best_threshold(scores: Floats, same: NDArray[np.bool_]) -> float:
    """The threshold of scores [P] with fewest errors against `same` [P], midway of two; the highest if several."""
    distinct, positives, negatives = _by_score(scores, same)
    correct = np.concatenate([[0], np.cumsum(positives - negatives)])  # and the different pairs, at every threshold
    best = int(np.argmax(correct))
    if best == 0:
        return float(np.nextafter(distinct[0], np.inf))
    if best == len(distinct):
        return float(distinct[-1])
    return float((distinct[best - 1] + distinct[best]) / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """A threshold for a chosen false-accept rate.

    Attributes:
        threshold: Scores at or above it are called the same.
        false_accept_rate: Of the different pairs, what part is; at most what was chosen.
        true_accept_rate: Of the same pairs.
    """

    threshold: float
    false_accept_rate: float
    true_accept_rate: float


def operating_point(scores: ArrayLike, same: ArrayLike, *, false_accept_rate: float) -> OperatingPoint:
    """The lowest threshold at which at most that part of the different pairs is called the same.

    It lies midway between the highest score that must be below it and the next one above.

    Args:
        scores: [N], higher for pairs that are more alike.
        same: booleans [N].
        false_accept_rate: In (0, 1).

    Raises:
        DataError: If there are too few different pairs to tell such a rate, fewer than one in its reciprocal.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    different = np.sort(values[~truth])[::-1]
    allowed = int(false_accept_rate * len(different) + 1e-9)
    if allowed < 1:
        raise DataError(
            f"{len(different)} different pairs are too few to tell a false-accept rate of {false_accept_rate:g}",
            hint=f"at least {math.ceil(1 / false_accept_rate - 1e-9):,} are needed",
        )
    if allowed >= len(different):
        threshold = float(values.min())
    else:
        refused = different[allowed]
        above = values[values > refused]
        threshold = float(np.nextafter(refused, np.inf)) if not len(above) else float((refused + above.min()) / 2)
        threshold = max(threshold, float(np.nextafter(refused, np.inf)))
    accepted = values >= threshold
    return OperatingPoint(
        threshold=threshold,
        false_accept_rate=float(accepted[~truth].mean()),
        true_accept_rate=float(accepted[truth].mean()) if truth.any() else math.nan,
    )


def fold_accuracies(scores: Floats, same: NDArray[np.bool_], *, folds: int, seed: int) -> Floats:
    """The accuracy on each fold [folds], with the threshold that is best on all others."""
    generator = np.random.default_rng(seed)
    fold = np.empty(len(scores), dtype=np.int64)
    for kind in (True, False):
        members = np.flatnonzero(same == kind)
        fold[generator.permutation(members)] = np.arange(len(members)) % folds
    accuracies = np.empty(folds)
    for number in range(folds):
        held = fold == number
        threshold = best_threshold(scores[~held], same[~held])
        accuracies[number] = np.mean((scores[held] >= threshold) == same[held])
    return accuracies


def _by_score(scores: Floats, same: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The distinct scores, falling, and how many same and different pairs have each."""
    rising, where = np.unique(scores, return_inverse=True)
    positives = np.bincount(where[same], minlength=len(rising))
    negatives = np.bincount(where[~same], minlength=len(rising))
    return rising[::-1], positives[::-1], negatives[::-1]

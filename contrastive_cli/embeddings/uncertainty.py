"""What an uncertainty is worth: does it tell the wrong from the right, and how much is gained by acting on it.

Letters: N images. A higher uncertainty should mean a higher risk of error; only its order matters here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bins:
    """Equally many images per bin, the surest first: mean uncertainty, part that is right, and number of images."""

    uncertainty: NDArray[np.float64]
    correct: NDArray[np.float64]
    count: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RejectionCurve:
    """Accuracy of the surest part of the images.

    Attributes:
        kept: [N] parts of the images that are kept, 1/N ... 1.
        accuracy: [N] accuracy among them.
        area: Mean accuracy over all parts; that of an uninformed order is `accuracy[-1]` on average.
        best_area: The area if all errors were rejected first.
    """

    kept: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    area: float
    best_area: float


def neighbor_is_same_class(vectors: Floats, labels: NDArray[np.integer[Any]]) -> Bools:
    """Whether the nearest other row by cosine has the row's class (recall at 1, leave one out).

    Args:
        vectors: [N, D], N >= 2.
        labels: [N], all known.

    Returns:
        [N] bool.

    Raises:
        DataError: If a label is unknown (-1) or the lengths differ.
    """
    if len(labels) != len(vectors) or (labels < 0).any():
        raise DataError(f"every one of the {len(vectors)} rows needs a known label")
    nearest = nearest_neighbors(vectors, k=1, metric="cosine").indices[:, 0]
    same: Bools = labels[nearest] == labels
    return same


def error_auroc(correct: Bools, uncertainty: Floats) -> float:
    """Probability that an error is less sure than a correct answer, both [N]; ties count half. nan if all are alike.

    With `neighbor_is_same_class` as `correct` this is the R-AUROC of Kirchhof et al. 2023 ("URL: A Representation
    Learning Benchmark for Transferable Uncertainty Estimates", https://arxiv.org/abs/2307.03810).

    Raises:
        DataError: If the lengths differ or a value is not finite.
    """
    from scipy.stats import rankdata

    _check(correct, uncertainty)
    errors = int((~correct).sum())
    rights = len(correct) - errors
    if errors == 0 or rights == 0:
        return math.nan
    ranks = rankdata(uncertainty)
    return float((ranks[~correct].sum() - errors * (errors + 1) / 2) / (errors * rights))


def reliability(correct: Bools, uncertainty: Floats, *, bins: int = 10) -> Bins:
    """The part of correct answers [N] by quantile of the uncertainty [N], at most `bins` of them.

    Raises:
        DataError: If the lengths differ, there are none, or a value is not finite.
    """
    _check(correct, uncertainty)
    parts = np.array_split(np.argsort(uncertainty, kind="stable"), min(bins, len(correct)))
    return Bins(
        uncertainty=np.array([uncertainty[part].mean(dtype=np.float64) for part in parts]),
        correct=np.array([correct[part].mean() for part in parts]),
        count=np.array([len(part) for part in parts]),
    )


def rejection_curve(correct: Bools, uncertainty: Floats) -> RejectionCurve:
    """Accuracy over the part of the N images kept when the least sure go first; equally sure ones share it.

    Raises:
        DataError: If the lengths differ, there are none, or a value is not finite.
    """
    _check(correct, uncertainty)
    counts = np.arange(1, len(correct) + 1)
    _, group = np.unique(uncertainty, return_inverse=True)
    expected = (np.bincount(group, weights=correct) / np.bincount(group))[group]  # a tie is broken at random
    accuracy = np.cumsum(expected[np.argsort(uncertainty, kind="stable")]) / counts
    best = np.cumsum(np.sort(correct)[::-1]) / counts
    return RejectionCurve(
        kept=counts / len(correct), accuracy=accuracy, area=float(accuracy.mean()), best_area=float(best.mean())
    )


def _check(correct: Bools, uncertainty: Floats) -> None:
    if correct.ndim != 1 or correct.shape != uncertainty.shape or not len(correct):
        raise DataError(f"{list(correct.shape)} answers do not fit {list(uncertainty.shape)} uncertainties")
    if not np.isfinite(uncertainty).all():
        raise DataError("an uncertainty is not finite")

"""How far the vectors of an export are from those of its run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import ExportError
from contrastive_cli.embeddings.similarity import unit_rows

TOLERANCE = 1e-4  # of the largest value: a hundred times the rounding of fp32, far below what any use would notice


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Of N embeddings by two libraries.

    Attributes:
        pictures: N.
        largest_difference: Between two numbers in one place.
        relative_difference: That, over the largest number of the run.
        cosine: The smallest between the two vectors of a picture.
        library: What computed the second: its name and version.
    """

    pictures: int
    largest_difference: float
    relative_difference: float
    cosine: float
    library: str


def agreement(expected: NDArray[np.float32], found: NDArray[np.float32], *, library: str) -> Agreement:
    """Compare two tables [N, D].

    Raises:
        ExportError: If they differ by more than `TOLERANCE` of the largest value, or in shape, or are not finite.
    """
    if found.shape != expected.shape:
        raise ExportError(f"{library} returns {list(found.shape)}, and the run {list(expected.shape)}")
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        whose = "the run's" if not np.isfinite(expected).all() else f"{library}'s"
        raise ExportError(f"some of {whose} embeddings are not finite, so that nothing can be compared")
    one, two = expected.astype(np.float64), found.astype(np.float64)
    largest = float(np.abs(one - two).max())
    relative = largest / max(float(np.abs(one).max()), float(np.finfo(np.float64).tiny))
    result = Agreement(
        pictures=len(one),
        largest_difference=largest,
        relative_difference=relative,
        cosine=float((unit_rows(one) * unit_rows(two)).sum(axis=1).min()),
        library=library,
    )
    if not relative <= TOLERANCE:
        raise ExportError(
            f"{library} differs from the run by {largest:.3g}, {relative:.3g} of the largest value and more than "
            f"{TOLERANCE:g} (smallest cosine {result.cosine:.6f}); nothing was left behind",
            hint="try another --format, or another version of that library",
        )
    return result

"""How clearly the neighbors of images stand out from other images: a yardstick of a space that needs no labels.

A space in which neighbors mean something has neighbors much nearer than random pairs, in units of how random pairs
vary. Few wide directions make random pairs vary; amplified noise leaves the neighbors at the distance of the others.
docs/space.md says how well it follows the accuracy of a k-NN vote, and which other yardsticks do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.similarity import unit_rows

NEIGHBORS = 10


def neighborhood_contrast(vectors: NDArray[np.floating[Any]], *, k: int = NEIGHBORS) -> float:
    """Mean over images of (mean cosine to the k nearest - mean cosine to all others) / their standard deviation.

    Args:
        vectors: [N, D], N >= 3; all cosines are held at once.
        k: Neighbors, at most half of the other images.

    Returns:
        A number >= 0 that turning and scaling of all vectors leave as it is; 0 where all cosines of an image are equal.

    Raises:
        DataError: If there are fewer than 3 rows or one is not finite.
    """
    if vectors.ndim != 2 or len(vectors) < 3:
        raise DataError(f"the contrast of neighbors needs three embeddings or more, not shape {list(vectors.shape)}")
    units = unit_rows(vectors)
    if not np.isfinite(units).all():
        raise DataError("a vector holds values that are not finite", hint="embed the image again")
    count = len(units)
    cosines = units @ units.T  # [N, N]
    others = cosines[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    k = min(k, (count - 1) // 2)
    nearest = np.partition(others, count - 1 - k, axis=1)[:, -k:]
    deviation = others.std(axis=1)
    above = nearest.mean(axis=1) - others.mean(axis=1)
    return float(np.where(deviation > 1e-9, above / np.maximum(deviation, 1e-9), 0.0).mean())

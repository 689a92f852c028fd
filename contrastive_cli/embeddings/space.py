"""The space of embeddings: centered, and along each of their principal axes divided by a power of the spread there.

Whitening for retrieval: Jegou and Chum 2012, https://doi.org/10.1007/978-3-642-33709-3_55. Shrinkage: Ledoit and Wolf
2004, https://doi.org/10.1016/S0047-259X(03)00096-4. All axes are kept, so that nothing is lost and `leave_space` is the
way back. The rows are turned back from the axes: that leaves all cosines as they are, and whoever standardizes each
number, as linear heads do, does not undo what the exponent is for. Letters: N images, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.columns import check_finite

MAX_WIDTH = 4096  # the axes of wider embeddings take minutes and hundreds of megabytes
MAX_EXPONENT = 2.0
SMALLEST_SPREAD = 1e-4  # of the largest: rounding errors of a constant dimension must not become a direction
ROWS_AT_ONCE = 256

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Space:
    """h -> (h - center) @ axes / spread ** exponent @ axes.T.

    Attributes:
        center: [D] float32, the mean of the embeddings it was measured on.
        axes: [D, D] float32, the principal axes as columns, orthonormal, the widest first.
        spread: [D] float32, the standard deviation along each axis after shrinkage, positive.
        exponent: 0 only centers, 1 whitens; in [0, 2].
    """

    center: NDArray[np.float32]
    axes: NDArray[np.float32]
    spread: NDArray[np.float32]
    exponent: float

    def __post_init__(self) -> None:
        """Refuse what cannot be a space: it may come from a stranger.

        Raises:
            DataError: If shapes, types or values do not fit.
        """
        width = len(self.center) if self.center.ndim == 1 else 0
        shapes = (self.center.shape, self.axes.shape, self.spread.shape)
        arrays = (self.center, self.axes, self.spread)
        if not 0 < width <= MAX_WIDTH or shapes != ((width,), (width, width), (width,)):
            raise DataError(f"center, axes and spread of a space have the shapes {', '.join(map(str, shapes))}")
        if any(array.dtype != np.float32 for array in arrays):
            raise DataError("center, axes and spread of a space must be float32")
        if not all(np.isfinite(array).all() for array in arrays) or not (self.spread > 0).all():
            raise DataError("center, axes and spread of a space must be finite, and the spread positive")
        if not 0 <= self.exponent <= MAX_EXPONENT:
            raise DataError(f"the exponent of a space is {self.exponent}, not in [0, {MAX_EXPONENT:g}]")

    @property
    def width(self) -> int:
        """D."""
        return len(self.center)

    def with_exponent(self, exponent: float) -> Space:
        """The same center and axes with another power of the spread."""
        return replace(self, exponent=exponent)


def measure_space(vectors: Floats, *, exponent: float) -> Space:
    """Center, principal axes and shrunk spread of embeddings; the same bits for the same vectors.

    Args:
        vectors: [N, D] finite, N >= 2; N may be below D, and dimensions may be constant.
        exponent: Of the spread, in [0, 2].

    Raises:
        DataError: If there are fewer than two rows, more than 4,096 dimensions, or a value is not finite.
    """
    if vectors.ndim != 2 or len(vectors) < 2 or not 0 < vectors.shape[1] <= MAX_WIDTH:
        raise DataError(
            f"a space is measured on two embeddings or more, of at most {MAX_WIDTH} numbers, not on shape "
            f"{list(vectors.shape)}"
        )
    check_finite(np.asarray(vectors), "the embeddings")
    rows = np.asarray(vectors, dtype=np.float64)
    center = rows.mean(axis=0)
    centered = rows - center
    covariance = shrunk_covariance(centered)
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1], axes[:, ::-1]
    # Eigenvectors have no sign; the largest number of each becomes positive.
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(len(largest))] < 0, -1.0, 1.0)
    spread = np.sqrt(np.maximum(variances, 0))
    spread = np.maximum(spread, SMALLEST_SPREAD * spread[0]) if spread[0] > 0 else np.ones_like(spread)
    return Space(
        center=center.astype(np.float32),
        axes=axes.astype(np.float32),
        spread=np.maximum(spread, np.finfo(np.float32).tiny).astype(np.float32),
        exponent=exponent,
    )


def shrunk_covariance(centered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of centered rows [N, D], pulled toward a multiple of the identity: [D, D].

    The weight of the identity is the one that minimizes the expected squared error (Ledoit and Wolf 2004, Lemma 3.2 to
    3.4); it does not depend on how the rows are turned.
    """
    count, width = centered.shape
    covariance: NDArray[np.float64] = centered.T @ centered / count
    mean = np.trace(covariance) / width
    squares = float((covariance**2).sum())
    distance = squares - width * mean**2  # of the covariance to the identity, d^2 times D
    if distance <= 0:
        return np.asarray(mean * np.eye(width))
    error = (float((np.einsum("nd,nd->n", centered, centered) ** 2).sum()) / count - squares) / count
    weight = min(1.0, max(0.0, error) / distance)
    return np.asarray((1 - weight) * covariance + weight * mean * np.eye(width))


def enter_space(vectors: Floats, space: Space) -> NDArray[np.float32]:
    """Raw embeddings [N, D] -> float32 [N, D] in the space. A row's bits do not depend on the rows beside it.

    Raises:
        DataError: If D differs or a value is not finite.
    """
    _check(vectors, space)
    return _multiplied(vectors, _power(space, -space.exponent), before=space.center)


def leave_space(vectors: Floats, space: Space) -> NDArray[np.float32]:
    """Embeddings [N, D] in the space -> the raw ones they were made of, up to rounding.

    Raises:
        DataError: If D differs or a value is not finite.
    """
    _check(vectors, space)
    return _multiplied(vectors, _power(space, space.exponent), after=space.center)


def _power(space: Space, exponent: float) -> NDArray[np.float64]:
    """The symmetric matrix [D, D] that multiplies along each axis by a power of its spread."""
    axes = space.axes.astype(np.float64)
    return np.asarray(axes * space.spread.astype(np.float64) ** exponent @ axes.T)


def _multiplied(
    vectors: Floats,
    matrix: NDArray[np.float64],
    *,
    before: NDArray[np.float32] | None = None,
    after: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Rows minus `before`, times the matrix, plus `after`.

    Always so many rows at once, since libraries round products of other shapes otherwise.
    """
    result = np.empty(vectors.shape, np.float32)
    block = np.zeros((ROWS_AT_ONCE, vectors.shape[1]))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        part = np.asarray(vectors[start : start + ROWS_AT_ONCE], np.float64)
        block[: len(part)] = part if before is None else part - before
        product = (block @ matrix)[: len(part)]
        result[start : start + len(part)] = product if after is None else product + after
    return result


def _check(vectors: Floats, space: Space) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != space.width:
        raise DataError(f"the space is of embeddings of {space.width} numbers, not of shape {list(vectors.shape)}")
    check_finite(np.asarray(vectors), "the embeddings")

"""Cosine similarity of embeddings, and where a similarity stands among those of random pairs. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastive_cli.core.errors import DataError

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSimilarities:
    """Sorted cosine similarities of random pairs of different rows, float64 in [-1, 1].

    Attributes:
        all_pairs: [num_pairs].
        same_class: The pairs of one class, None without labels; pairs with a label -1 are in neither part.
        different_class: The pairs of two classes, None without labels.
    """

    all_pairs: NDArray[np.float64]
    same_class: NDArray[np.float64] | None = None
    different_class: NDArray[np.float64] | None = None


def cosine_similarity(a: ArrayLike, b: ArrayLike) -> float:
    """The cosine of the angle between two vectors [D], in [-1, 1]; 0 if one of them is zero.

    Raises:
        DataError: If the lengths differ or a value is not finite.
    """
    first, second = _finite(np.atleast_1d(a)), _finite(np.atleast_1d(b))
    if first.ndim != 1 or first.shape != second.shape:
        raise DataError(f"cannot compare vectors of shapes {first.shape} and {second.shape}")
    return float(np.clip(unit_rows(first) @ unit_rows(second), -1, 1))


def cosine_matrix(vectors: ArrayLike) -> NDArray[np.float64]:
    """All cosine similarities of the rows of [N, D]: [N, N], symmetric, in [-1, 1].

    Raises:
        DataError: If the array is not two-dimensional or a value is not finite.
    """
    units = unit_rows(_table(vectors))
    return np.clip(units @ units.T, -1, 1)


def paired_cosines(vectors: Floats, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cosine of each pair of rows of [N, D]: positions [P, 2] -> [P], in [-1, 1].

    Raises:
        DataError: If a row that is used holds a value that is not finite.
    """
    cosines = np.empty(len(positions))
    for start in range(0, len(positions), 8192):
        part = slice(start, start + 8192)
        first, second = (unit_rows(_table(vectors[positions[part, side]])) for side in (0, 1))
        cosines[part] = np.clip(np.einsum("nd,nd->n", first, second), -1, 1)
    return cosines


def percentile_of(value: float, reference: ArrayLike) -> float:
    """The percentile of `value` in a sorted sample, in [0, 100]; equal values count half (the mid-rank).

    Raises:
        ValueError: If the sample is empty or the value is not a number.
    """
    sample = np.asarray(reference, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or np.isnan(value):
        raise ValueError(f"no percentile of {value} in a sample of shape {sample.shape}")
    below, up_to = np.searchsorted(sample, value, side="left"), np.searchsorted(sample, value, side="right")
    return float(50.0 * (below + up_to) / len(sample))


def random_pair_similarities(
    vectors: Floats, *, num_pairs: int, seed: int, labels: ArrayLike | None = None
) -> PairSimilarities:
    """Cosine similarities of `num_pairs` random pairs of different rows, drawn with replacement.

    Args:
        vectors: [N, D], N >= 2; only the drawn rows are read.
        num_pairs: How many pairs, at least 1.
        seed: The same seed draws the same pairs.
        labels: [N] integers, -1 where unknown; splits the pairs into same and different class.

    Raises:
        ValueError: If num_pairs < 1.
        DataError: If there are fewer than 2 rows, a drawn row is not finite, or the number of labels differs.
    """
    if num_pairs < 1:
        raise ValueError(f"num_pairs must be at least 1, not {num_pairs}")
    if vectors.ndim != 2 or len(vectors) < 2:
        raise DataError(f"random pairs need a table of at least 2 vectors, not shape {vectors.shape}")
    generator = np.random.default_rng(seed)
    first = generator.integers(len(vectors), size=num_pairs)
    second = (first + generator.integers(1, len(vectors), size=num_pairs)) % len(vectors)  # never equal to the first
    similarities = paired_cosines(vectors, np.stack([first, second], axis=1))
    if labels is None:
        return PairSimilarities(all_pairs=np.sort(similarities))
    classes = np.asarray(labels)
    if classes.shape != (len(vectors),):
        raise DataError(f"{len(vectors)} vectors need as many labels, not shape {classes.shape}")
    known = (classes[first] >= 0) & (classes[second] >= 0)
    same = classes[first] == classes[second]
    return PairSimilarities(
        all_pairs=np.sort(similarities),
        same_class=np.sort(similarities[known & same]),
        different_class=np.sort(similarities[known & ~same]),
    )


def unit_rows(vectors: Floats) -> NDArray[np.float64]:
    """Vectors [..., D] scaled to length 1; a zero vector stays zero."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True)  # scaled first, so that no square leaves float64
    scaled = np.asarray(vectors, dtype=np.float64) / np.where(largest > 0, largest, 1.0)
    norms = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return np.asarray(scaled / np.where(norms > 0, norms, 1.0))


def _table(vectors: ArrayLike) -> NDArray[np.float64]:
    table = _finite(vectors)
    if table.ndim != 2:
        raise DataError(f"vectors must be a table [N, D], not shape {table.shape}")
    return table


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise DataError("a vector holds values that are not finite", hint="embed the image again")
    return array

"""Both sides of a search under one metric: vectors made ready, so that near pairs have large products.

In either metric, half the squared distance of a pair of ready vectors is `half_squares` of the query, plus
`half_squares` of the other vector, less their product.

Letters: N vectors, R queries, D dimensions, K candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.embeddings.pieces import read_chunks

Floats = NDArray[np.floating[Any]]
Float64s = NDArray[np.float64]
Float32s = NDArray[np.float32]
SMALLEST_NORM = 1e-150  # the square of a smaller norm leaves float64


@dataclass(frozen=True, kw_only=True, slots=True)
class CosineSides:
    """Unit vectors; a zero vector stays zero, and has distance 1 from everything.

    Attributes:
        norms: [N] of the vectors of the table, 1 for a zero vector.
    """

    norms: Float64s

    @classmethod
    def of(cls, vectors: Floats) -> CosineSides:
        """Vectors [N, D], read a few at a time."""
        return cls(norms=np.concatenate([_divisors(chunk) for _, chunk in read_chunks(vectors)]))

    def ready(self, chunk: Float64s) -> Float64s:
        """[..., D] -> [..., D]."""
        return chunk / _divisors(chunk)[..., None]

    def half_squares(self, ready: Float64s) -> Float64s:
        """[R, D] -> [R]."""
        return np.full(len(ready), 0.5)

    def query_rows(self, ready: Float64s) -> Float32s:
        """[R, D] -> the left factors of scores [R, D]."""
        return ready.astype(np.float32)

    def table_rows(self, ready: Float64s, *, error: float) -> Float32s:
        """[N, D] -> the right factors of scores [N, D]."""
        return ready.astype(np.float32)

    def symmetric(self, ready: Float32s, *, error: float) -> tuple[Float32s, Float32s, Float64s]:
        """[N, D] -> left and right factors of symmetric scores, [N, D], and what they lack of a score, [N]."""
        return ready, ready, np.zeros(len(ready))

    def floors(self, ready: Float64s) -> Float64s:
        """[R, D] -> [R]: half the squared distance of a pair is at least this, less the score."""
        return np.ones(len(ready))

    def distances(self, own: Float64s, others: Float64s, numbers: NDArray[np.int64]) -> Float64s:
        """Of R queries [R, D] and K vectors for each [R, K, D] with numbers [R, K], all as they were given: [R, K]."""
        products: Float64s = np.einsum("rkd,rd->rk", others, self.ready(own))  # sums all rows alike, BLAS does not
        distances: Float64s = np.clip(1 - products / self.norms[numbers], 0, 2)
        return distances.round(12)  # parallel vectors have distance 0

    def to_half_squares(self, distances: Float64s) -> Float64s:
        """Distances of pairs [R] -> half the squared distances of their ready vectors [R]."""
        return distances


@dataclass(frozen=True, kw_only=True, slots=True)
class EuclideanSides:
    """Centered vectors, scaled to norms <= 1: an offset would take the digits that float32 has.

    Attributes:
        center: [D], the mean of the table.
        scale: The largest distance from it on either side, 1 if that is 0.
    """

    center: Float64s
    scale: float

    @classmethod
    def of(cls, vectors: Floats, queries: Floats | None) -> EuclideanSides:
        """Vectors [N, D] and queries [R, D], read a few at a time."""
        center = np.sum([chunk.sum(0) for _, chunk in read_chunks(vectors)], axis=0) / len(vectors)
        sides = (vectors,) if queries is None else (vectors, queries)
        scale = max(float(norms(chunk - center).max()) for side in sides for _, chunk in read_chunks(side)) or 1.0
        return cls(center=center, scale=scale)

    def ready(self, chunk: Float64s) -> Float64s:
        """[..., D] -> [..., D]."""
        return (chunk - self.center) / self.scale

    def half_squares(self, ready: Float64s) -> Float64s:
        """[R, D] -> [R]."""
        return 0.5 * norms(ready) ** 2

    def query_rows(self, ready: Float64s) -> Float32s:
        """[R, D] -> the left factors of scores [R, D + 1]."""
        rows = ready.astype(np.float32)
        return np.hstack((rows, np.ones((len(rows), 1), np.float32)))

    def table_rows(self, ready: Float64s, *, error: float) -> Float32s:
        """[N, D] -> the right factors of scores [N, D + 1]: a score is the product less half the table's square.

        That is one dimension more, whose own rounding takes a second error.
        """
        bias = (1 - 3 * error) * self.half_squares(ready)
        return np.hstack((ready, -bias[:, None])).astype(np.float32)

    def symmetric(self, ready: Float32s, *, error: float) -> tuple[Float32s, Float32s, Float64s]:
        """[N, D] -> left and right factors of symmetric scores, [N, D + 2], and what they lack of a score, [N].

        The score less the other's bias is symmetric. Two more dimensions take both in; their part of the rounding
        error is at most that of the product, so three errors are set aside where one would do.
        """
        bias = (1 - error) * self.half_squares(ready.astype(np.float64))
        half = (bias[:, None] * (1 - 2 * error)).astype(np.float32)
        ones = np.ones_like(half)
        return np.hstack((ready, -half, ones)), np.hstack((ready, ones, -half)), bias

    def floors(self, ready: Float64s) -> Float64s:
        """[R, D] -> [R]: half the squared distance of a pair is at least this, less the score."""
        return self.half_squares(ready)

    def distances(self, own: Float64s, others: Float64s, numbers: NDArray[np.int64]) -> Float64s:
        """Of R queries [R, D] and K vectors for each [R, K, D], all as they were given: [R, K]."""
        return norms(own[:, None] - others)

    def to_half_squares(self, distances: Float64s) -> Float64s:
        """Distances of pairs [R] -> half the squared distances of their ready vectors [R]."""
        half: Float64s = 0.5 * (distances / self.scale) ** 2
        return half


def norms(chunk: Float64s) -> Float64s:
    """[..., D] -> [...]."""
    squares: Float64s = np.einsum("...d,...d->...", chunk, chunk)
    return np.sqrt(squares)


def rounding_error(num_dimensions: int) -> float:
    """Relative to the product of the norms, what float32 may do to a dot product and its two vectors.

    The probable bound of Higham and Mary 2019 (doi:10.1137/18M1226312): it grows with the square root of D.
    """
    return float(np.finfo(np.float32).eps) * (math.sqrt(num_dimensions) + 4)


def _divisors(chunk: Float64s) -> Float64s:
    """What makes unit vectors; a zero vector stays zero."""
    lengths = norms(chunk)
    return np.where(lengths > SMALLEST_NORM, lengths, 1.0)

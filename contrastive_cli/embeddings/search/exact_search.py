"""Exact search for the nearest rows of a table: float32 matrix products of tiles, then a proof.

The best candidates of the products are ranked again in float64, and a bound on the float32 error proves that none was
missed; the few rows without that proof are searched again in float64. The numpy products take most of the time, so
torch has nothing to add (its product and selection were no faster), and importing it would cost seconds.

Letters: N vectors, R queries at a time, D dimensions, K candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.pieces import gather, read_chunks
from contrastive_cli.embeddings.search.query_join import best_of_table
from contrastive_cli.embeddings.search.self_join import best_partners

Floats = NDArray[np.floating[Any]]
GATHER_VALUES = 2**17  # 1 MiB of float64: beyond the caches it takes three times as long
SMALLEST_NORM = 1e-150  # the square of a smaller norm leaves float64


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactSearch:
    """Both sides of a search: the score of a pair is `q . b - bias_b` of its prepared vectors, larger is nearer.

    A prepared vector is a unit vector (cosine), or centered and scaled to norms <= 1 (euclidean). In both cases
    half the squared distance of a pair is at least `floor_q - score`, whatever float32 did to the score.
    """

    vectors: Floats
    queries: Floats
    metric: Metric
    exclude_self: bool
    norms: NDArray[np.float64]  # [N] of the vectors, 1 for a zero vector; cosine only
    center: NDArray[np.float64]  # [D]
    scale: float
    error: float

    @classmethod
    def build(cls, vectors: Floats, *, queries: Floats | None, metric: Metric) -> ExactSearch:
        """Prepare both sides; `queries` None means the vectors themselves, each excluded from its own neighbors."""
        center, scale, norms = np.zeros(vectors.shape[1]), 1.0, np.ones(0)
        if metric == "cosine":
            norms = np.concatenate([_divisors(chunk) for _, chunk in read_chunks(vectors)])
        else:  # centring costs nothing and saves the digits that an offset would take
            center = np.sum([chunk.sum(0) for _, chunk in read_chunks(vectors)], axis=0) / len(vectors)
            sides = (vectors,) if queries is None else (vectors, queries)
            scale = max(float(_norms(chunk - center).max()) for side in sides for _, chunk in read_chunks(side)) or 1.0
        return cls(
            vectors=vectors,
            queries=vectors if queries is None else queries,
            metric=metric,
            exclude_self=queries is None,
            norms=norms,
            center=center,
            scale=scale,
            error=rounding_error(vectors.shape[1]),
        )

    def candidates(
        self, rows: NDArray[np.int64], num_candidates: int, *, progress: CountProgress | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What `rank` takes for some queries, reading the vectors a tile at a time."""
        queries = self._ready(rows).astype(np.float32)
        if self.metric == "euclidean":
            queries = np.hstack((queries, np.ones((len(queries), 1), np.float32)))
        partners, worst = best_of_table(
            queries,
            self._tile,
            len(self.vectors),
            count=num_candidates,
            own=rows if self.exclude_self else None,
            progress=progress,
        )
        return partners, worst.astype(np.float64)

    def _tile(self, members: NDArray[np.int64]) -> NDArray[np.float32]:
        """Prepared vectors [R, D]; the bias is one dimension more, whose own rounding takes a second error."""
        ready = self._prepare(gather(self.vectors, members))
        if self.metric == "cosine":
            return ready.astype(np.float32)
        bias = (1 - 3 * self.error) * 0.5 * _norms(ready) ** 2
        return np.hstack((ready, -bias[:, None])).astype(np.float32)

    def candidates_of_all(
        self, num_candidates: int, *, progress: CountProgress | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What `rank` takes, for every row of a search of the vectors among themselves, in half its products."""
        base = np.empty(self.vectors.shape, np.float32)
        for start, chunk in read_chunks(self.vectors):
            base[start : start + len(chunk)] = self._prepare(chunk)
        if self.metric == "cosine":
            partners, worst = best_partners(base, base, count=num_candidates, progress=progress)
            return partners, worst.astype(np.float64)
        # The score less the other's bias is symmetric. Two more dimensions take both in; their part of the rounding
        # error is at most that of the product, so three errors are set aside where one would do.
        bias = (1 - self.error) * 0.5 * _norms(base.astype(np.float64)) ** 2
        half = (bias[:, None] * (1 - 2 * self.error)).astype(np.float32)
        ones = np.ones_like(half)
        left, right = np.hstack((base, -half, ones)), np.hstack((base, ones, -half))
        partners, worst = best_partners(left, right, count=num_candidates, progress=progress)
        return partners, worst.astype(np.float64) + bias

    def rank(
        self, rows: NDArray[np.int64], candidates: NDArray[np.int64], worst: Floats, *, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Indices [R, k], distances [R, k] and whether a row is proved [R], from candidates [R, K] of the rows.

        `worst` [R] is a score that no other vector exceeds.
        """
        candidates = np.sort(candidates, axis=1)  # ascending, so that a stable sort keeps low indices
        distances = self._exact(rows, candidates)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        distances = np.take_along_axis(distances, order, 1)
        floor = (1 - self.error) * (1.0 if self.metric == "cosine" else 0.5 * _norms(self._ready(rows)) ** 2)
        last = distances[:, -1]
        half_square = last if self.metric == "cosine" else 0.5 * (last / self.scale) ** 2
        everything = candidates.shape[1] == len(self.vectors) - self.exclude_self
        proved = everything | (half_square + 1e-12 < floor - worst.astype(np.float64))
        return np.take_along_axis(candidates, order, 1), distances, proved

    def slow(self, rows: NDArray[np.int64], *, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Search in float64, for rows with more near-ties than candidates (collapsed embeddings, duplicates)."""
        ready = self._ready(rows)
        gaps = np.empty((len(rows), len(self.vectors)))
        for start, chunk in read_chunks(self.vectors):
            others = self._prepare(chunk)
            half = 0.5 if self.metric == "cosine" else 0.5 * _norms(others) ** 2
            gaps[:, start : start + len(chunk)] = half - ready @ others.T
        np.round(gaps, 12, out=gaps)  # float64 noise must not order equal vectors
        if self.exclude_self:
            gaps[np.arange(len(rows)), rows] = np.inf
        limits = np.partition(gaps, k - 1, axis=1)[:, k - 1]
        chosen = np.empty((len(rows), k), np.int64)
        for row, (gap, limit) in enumerate(zip(gaps, limits, strict=True)):
            near = np.flatnonzero(gap <= limit)
            chosen[row] = near[np.argsort(gap[near], kind="stable")[:k]]
        chosen.sort(axis=1)
        distances = self._exact(rows, chosen)
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(chosen, order, 1), np.take_along_axis(distances, order, 1)

    def _ready(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._prepare(gather(self.queries, rows))

    def _prepare(self, chunk: NDArray[np.float64]) -> NDArray[np.float64]:
        return _unit(chunk) if self.metric == "cosine" else (chunk - self.center) / self.scale

    def _exact(self, rows: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Distances in float64 from the given vectors, [R, K]; a few rows at a time to stay in the cache."""
        distances = np.empty(candidates.shape)
        step = max(1, GATHER_VALUES // (candidates.shape[1] * self.vectors.shape[1]))
        own = gather(self.queries, rows)  # [R, D]
        own = _unit(own) if self.metric == "cosine" else own
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            others = gather(self.vectors, candidates[part])  # [R, K, D]
            if self.metric == "cosine":
                products = np.einsum("rkd,rd->rk", others, own[part])  # sums all rows alike, which BLAS does not
                cosine = products / self.norms[candidates[part]]
                distances[part] = np.round(np.clip(1 - cosine, 0, 2), 12)  # parallel vectors have distance 0
            else:
                distances[part] = _norms(own[part, None] - others)
        return distances


def _unit(chunk: NDArray[np.float64]) -> NDArray[np.float64]:
    return chunk / _divisors(chunk)[..., None]


def _divisors(chunk: NDArray[np.float64]) -> NDArray[np.float64]:
    """What makes unit vectors; a zero vector stays zero."""
    norms = _norms(chunk)
    return np.where(norms > SMALLEST_NORM, norms, 1.0)


def _norms(chunk: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.einsum("...d,...d->...", chunk, chunk)
    return np.sqrt(squares)


def rounding_error(num_dimensions: int) -> float:
    """Relative to the product of the norms, what float32 may do to a dot product and its two vectors.

    The probable bound of Higham and Mary 2019 (doi:10.1137/18M1226312): it grows with the square root of D.
    """
    return float(np.finfo(np.float32).eps) * (math.sqrt(num_dimensions) + 4)

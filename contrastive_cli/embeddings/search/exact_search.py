"""Exact search for the nearest rows of a table: float32 matrix products of tiles, then a proof.

The best candidates of the products are ranked again in float64, and a bound on the float32 error proves that none was
missed; the few rows without that proof are searched again in float64. The numpy products take most of the time, so
torch has nothing to add (its product and selection were no faster), and importing it would cost seconds.

Letters: N vectors, R queries at a time, D dimensions, K candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.pieces import gather, read_chunks, read_part
from contrastive_cli.embeddings.search.peers import ALONE, Peers
from contrastive_cli.embeddings.search.query_join import best_of_table
from contrastive_cli.embeddings.search.self_join import best_partners
from contrastive_cli.embeddings.search.sides import CosineSides, EuclideanSides, Floats, rounding_error

GATHER_VALUES = 2**17  # 1 MiB of float64: beyond the caches it takes three times as long


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactSearch:
    """Both sides of a search: the score of a pair is `q . b - bias_b` of its ready vectors, larger is nearer.

    Half the squared distance of a pair is at least `floor_q - score`, whatever float32 did to the score.
    """

    vectors: Floats
    queries: Floats
    sides: CosineSides | EuclideanSides
    exclude_self: bool
    error: float
    peers: Peers = ALONE

    @classmethod
    def build(cls, vectors: Floats, *, queries: Floats | None, metric: Metric, peers: Peers = ALONE) -> ExactSearch:
        """Prepare both sides; `queries` None means the vectors themselves, each excluded from its own neighbors."""
        return cls(
            vectors=vectors,
            queries=vectors if queries is None else queries,
            sides=CosineSides.of(vectors) if metric == "cosine" else EuclideanSides.of(vectors, queries),
            exclude_self=queries is None,
            error=rounding_error(vectors.shape[1]),
            peers=peers,
        )

    def candidates(
        self, rows: NDArray[np.int64], num_candidates: int, *, progress: CountProgress | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What `rank` takes for the queries `rows` [R]: candidates [R, K] and the worst of their scores [R]."""
        partners, worst = best_of_table(
            self.sides.query_rows(self._ready(rows)),
            self._tile,
            len(self.vectors),
            count=num_candidates,
            own=rows if self.exclude_self else None,
            peers=self.peers,
            progress=progress,
        )
        return partners, worst.astype(np.float64)

    def _tile(self, members: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.sides.table_rows(self.sides.ready(gather(self.vectors, members)), error=self.error)

    def candidates_of_all(
        self, num_candidates: int, *, progress: CountProgress | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What `rank` takes, [N, K] and [N], for all vectors among themselves, in half the products.

        A process alone makes the table ready once, which takes 4 N D bytes and more; several make of it what they
        need when they need it, so that their memory does not add up to a multiple of that.
        """
        if self.peers.size == 1:
            base = np.empty(self.vectors.shape, np.float32)
            for start, chunk in read_chunks(self.vectors):
                base[start : start + len(chunk)] = self.sides.ready(chunk)
            left, right, lacking = self.sides.symmetric(base, error=self.error)
        else:
            lacking = np.concatenate([self._symmetric(chunk)[2] for _, chunk in read_chunks(self.vectors)])

        def sides(tile: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            if self.peers.size == 1:
                return left[tile], right[tile]
            return self._symmetric(read_part(self.vectors, tile))[:2]

        partners, worst = best_partners(
            sides, len(self.vectors), count=num_candidates, peers=self.peers, progress=progress
        )
        return partners, worst.astype(np.float64) + lacking

    def _symmetric(
        self, chunk: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        return self.sides.symmetric(self.sides.ready(chunk).astype(np.float32), error=self.error)

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
        # A vector that is no candidate is at least `floor - worst` away: farther than the last of the k, or unproved.
        floor = (1 - self.error) * self.sides.floors(self._ready(rows))
        half_square = self.sides.to_half_squares(distances[:, -1])
        everything = candidates.shape[1] == len(self.vectors) - self.exclude_self
        proved = everything | (half_square + 1e-12 < floor - worst.astype(np.float64))
        return np.take_along_axis(candidates, order, 1), distances, proved

    def slow(self, rows: NDArray[np.int64], *, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Indices and distances [R, k] in float64, for rows with more near-ties than candidates (as duplicates)."""
        ready = self._ready(rows)
        gaps = np.empty((len(rows), len(self.vectors)))
        for start, chunk in read_chunks(self.vectors):
            others = self.sides.ready(chunk)
            gaps[:, start : start + len(chunk)] = self.sides.half_squares(others) - ready @ others.T
        np.round(gaps, 12, out=gaps)  # float64 noise must not order equal vectors
        if self.exclude_self:
            gaps[np.arange(len(rows)), rows] = np.inf
        # The k smallest gaps of each row, the lower number first among equal ones.
        limits = np.partition(gaps, k - 1, axis=1)[:, k - 1]
        chosen = np.empty((len(rows), k), np.int64)
        for row, (gap, limit) in enumerate(zip(gaps, limits, strict=True)):
            near = np.flatnonzero(gap <= limit)
            chosen[row] = near[np.argsort(gap[near], kind="stable")[:k]]
        # Their order is that of the distances of the vectors as they were given.
        chosen.sort(axis=1)
        distances = self._exact(rows, chosen)
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(chosen, order, 1), np.take_along_axis(distances, order, 1)

    def _ready(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.sides.ready(gather(self.queries, rows))

    def _exact(self, rows: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Distances in float64 from the given vectors, [R, K]; a few rows at a time to stay in the cache."""
        distances = np.empty(candidates.shape)
        step = max(1, GATHER_VALUES // (candidates.shape[1] * self.vectors.shape[1]))
        own = gather(self.queries, rows)  # [R, D]
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            others = gather(self.vectors, candidates[part])  # [R, K, D]
            distances[part] = self.sides.distances(own[part], others, candidates[part])
        return distances

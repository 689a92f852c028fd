"""The best partners of a tile of rows while more and more scores are seen, of which only the few above a limit count.

Letters: T rows of a tile, C columns of a tile of scores, K partners.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]
Finds = tuple[Indices, Indices, Scores]  # rows within the tile, partners, scores
MAX_TILE_ROWS = 2**15 - 1  # for the radix sort in `RunningBest.merge`


@dataclass(kw_only=True, slots=True)
class RunningBest:
    """The best partners so far of the rows of a tile, and finds that were not compared with them yet."""

    partners: Indices  # [T, K]
    scores: Scores  # [T, K]
    limit: Scores  # [T], the least of the scores
    finds: list[Finds] = field(default_factory=list)
    num_finds: int = 0

    def add(self, finds: Finds) -> None:
        """Remember the finds; a limit that is lower in the meantime costs more finds, not the result."""
        self.finds.append(finds)
        self.num_finds += len(finds[0])
        if 2 * self.num_finds > self.scores.size:
            self.merge()

    def merge(self) -> None:
        """Keep the best of what there was and of the finds."""
        if self.num_finds == 0:
            return
        rows, partners, scores = (np.concatenate(parts) for parts in zip(*self.finds, strict=True))
        self.finds, self.num_finds = [], 0
        num_rows, count = self.scores.shape
        found = np.bincount(rows, minlength=num_rows)
        crowded = int(found.max()) > 2 * count  # best first then, and the rest is left out
        order = np.lexsort((-scores, rows)) if crowded else np.argsort(rows.astype(np.int16), kind="stable")  # by radix
        rows = rows[order]
        places = np.arange(len(rows)) - (np.cumsum(found) - found)[rows] + count
        if crowded:
            near = places < 2 * count
            rows, places, order = rows[near], places[near], order[near]
        width = int(places.max()) + 1
        all_scores = np.full((num_rows, width), -np.inf, np.float32)
        all_partners = np.zeros((num_rows, width), np.int64)
        all_scores[:, :count], all_partners[:, :count] = self.scores, self.partners
        all_scores[rows, places], all_partners[rows, places] = scores[order], partners[order]
        kept = np.argpartition(all_scores, width - count, axis=1)[:, width - count :]
        self.scores = np.take_along_axis(all_scores, kept, 1)
        self.partners = np.take_along_axis(all_partners, kept, 1)
        self.limit = self.scores.min(1)


def first_best(scores: Scores, members: Indices, *, count: int) -> RunningBest:
    """The K best of scores [T, C], K <= C, whose columns stand for the partners `members` [C]."""
    columns = np.argpartition(scores, scores.shape[1] - count, axis=1)[:, scores.shape[1] - count :]
    chosen = np.take_along_axis(scores, columns, 1)
    return RunningBest(partners=members[columns], scores=chosen, limit=chosen.min(1))


def scores_above(scores: Scores, limit: Scores) -> Finds:
    """Rows, columns and values [F] of the scores [Q, C] above a limit [Q, 1]."""
    found = np.flatnonzero(scores > limit)
    rows, columns = np.divmod(found, scores.shape[1])
    return rows, columns, scores.ravel()[found]

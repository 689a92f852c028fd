"""The best partners of each row of a table among its other rows, where one score serves both of its rows.

Half of the matrix product of a plain search is saved. The tiles of scores are visited diagonal by diagonal, so that all
rows see as many others at any time and their limits tighten alike: of a tile soon only the few scores above the limit
of their row or column are looked at.

Letters: N rows, D dimensions, K partners, T rows of a tile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.threads import map_in_threads

TILE_ROWS = 2048  # a tile has at most twice as many where K is less, and 32767 at most for `_Best.merge`
Scores = NDArray[np.float32]
Indices = NDArray[np.int64]
Finds = tuple[Indices, Indices, Scores]  # rows within the tile, partners, scores


def best_partners(
    left: Scores, right: Scores, *, count: int, progress: CountProgress | None = None
) -> tuple[Indices, Scores]:
    """The `count` others with the largest scores of each row.

    Args:
        left: [N, D].
        right: [N, D]; the score of rows i and j is left_i . right_j and must equal left_j . right_i.
        count: K, 1 <= K < N; for more than TILE_ROWS this is the wrong way.
        progress: Called with (rows done, N), in proportion to the work.

    Returns:
        Partners [N, K], in no order, and the least of their scores [N]: no other partner has a larger one.
    """
    num_tiles = max(1, min(math.ceil(len(left) / TILE_ROWS), len(left) // (count + 1)))
    edges = np.linspace(0, len(left), num_tiles + 1).round().astype(int)
    tiles = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
    firsts = map_in_threads(lambda tile: _first(left[tile] @ right[tile].T, start=tile.start, count=count), tiles)
    best = list(firsts)
    pairs = list(_pairs(num_tiles))

    def search(pair: tuple[int, int]) -> tuple[Finds, Finds]:
        row, column = pair
        scores = left[tiles[row]] @ right[tiles[column]].T  # [T, T]
        rows, columns, found = _above(scores, best[row].limit[:, None])
        of_rows = rows, columns + tiles[column].start, found
        rows, columns, found = _above(scores, best[column].limit)
        return of_rows, (columns, rows + tiles[row].start, found)

    for done, ((row, column), (of_rows, of_columns)) in enumerate(
        zip(pairs, map_in_threads(search, pairs), strict=True)
    ):
        best[row].add(of_rows)
        best[column].add(of_columns)
        if progress is not None:
            progress((done + 1) * len(left) // len(pairs), len(left))
    for part in best:
        part.merge()
    return np.concatenate([part.partners for part in best]), np.concatenate([part.limit for part in best])


def _above(scores: Scores, limit: Scores) -> Finds:
    """Rows, columns and values of the scores above a limit that is broadcast."""
    found = np.flatnonzero(scores > limit)
    rows, columns = np.divmod(found, scores.shape[1])
    return rows, columns, scores.ravel()[found]


def _pairs(num_tiles: int) -> Iterator[tuple[int, int]]:
    """Each unordered pair of two tiles once, all pairs of neighbours first, then those two apart, and so on."""
    for distance in range(1, num_tiles // 2 + 1):
        twice = 2 * distance == num_tiles
        for row in range(distance if twice else num_tiles):
            yield row, (row + distance) % num_tiles


@dataclass(kw_only=True, slots=True)
class _Best:
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


def _first(scores: Scores, *, start: int, count: int) -> _Best:
    """From the scores [T, T] of a tile with itself."""
    np.fill_diagonal(scores, -np.inf)
    partners = np.argpartition(scores, len(scores) - count, axis=1)[:, len(scores) - count :]
    chosen = np.take_along_axis(scores, partners, 1)
    return _Best(partners=partners + start, scores=chosen, limit=chosen.min(1))

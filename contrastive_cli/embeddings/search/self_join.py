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

import numpy as np

from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.search.running_best import Finds, Indices, RunningBest, Scores, first_best, scores_above
from contrastive_cli.embeddings.search.threads import map_in_threads

TILE_ROWS = 2048  # a tile has at most twice as many where K is less, and MAX_TILE_ROWS at most


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

    def begin(tile: slice) -> RunningBest:
        scores = left[tile] @ right[tile].T
        np.fill_diagonal(scores, -np.inf)
        return first_best(scores, np.arange(tile.start, tile.stop), count=count)

    best = list(map_in_threads(begin, tiles))
    pairs = list(_pairs(num_tiles))

    def search(pair: tuple[int, int]) -> tuple[Finds, Finds]:
        row, column = pair
        scores = left[tiles[row]] @ right[tiles[column]].T  # [T, T]
        rows, columns, found = scores_above(scores, best[row].limit[:, None])
        of_rows = rows, columns + tiles[column].start, found
        rows, columns, found = scores_above(scores, best[column].limit)
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


def _pairs(num_tiles: int) -> Iterator[tuple[int, int]]:
    """Each unordered pair of two tiles once, all pairs of neighbors first, then those two apart, and so on."""
    for distance in range(1, num_tiles // 2 + 1):
        twice = 2 * distance == num_tiles
        for row in range(distance if twice else num_tiles):
            yield row, (row + distance) % num_tiles

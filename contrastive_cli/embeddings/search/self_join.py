"""The best partners of each row of a table among its other rows, where one score serves both of its rows.

Half of the matrix product of a plain search is saved. The tiles of scores are visited diagonal by diagonal, so that all
rows see as many others at any time and their limits tighten alike: of a tile soon only the few scores above the limit
of their row or column are looked at.

Letters: N rows, D dimensions, K partners, T rows of a tile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.search.peers import ALONE, Peers, best_of_all
from contrastive_cli.embeddings.search.running_best import Finds, Indices, RunningBest, Scores, first_best, scores_above
from contrastive_cli.embeddings.search.threads import map_in_threads

TILE_ROWS = 2048  # a tile has at most twice as many where K is less, and MAX_TILE_ROWS at most


def best_partners(
    sides: Callable[[slice], tuple[Scores, Scores]],
    num_rows: int,
    *,
    count: int,
    peers: Peers = ALONE,
    progress: CountProgress | None = None,
) -> tuple[Indices, Scores]:
    """The `count` others with the largest scores of each row.

    Args:
        sides: Consecutive rows -> their left and right factors, each [T, D]; the score of rows i and j is
            left_i . right_j and must equal left_j . right_i. Called in several threads, often for each row.
        num_rows: N.
        count: K, 1 <= K < N; for more than TILE_ROWS this is the wrong way.
        peers: The processes that are dealt the pairs of tiles; each gets all that is found.
        progress: Called with (rows done, N), in proportion to the work.

    Returns:
        Partners [N, K], in no order, and the least of their scores [N]: no other partner has a larger one.
    """
    num_tiles = max(1, min(math.ceil(num_rows / TILE_ROWS), num_rows // (count + 1)))
    edges = np.linspace(0, num_rows, num_tiles + 1).round().astype(int)
    tiles = [slice(start, stop) for start, stop in itertools.pairwise(edges)]

    def begin(tile: slice) -> RunningBest:
        left, right = sides(tile)
        scores = left @ right.T
        np.fill_diagonal(scores, -np.inf)
        return first_best(scores, np.arange(tile.start, tile.stop), count=count)

    best = list(map_in_threads(begin, peers.dealt(tiles)))
    if peers.size > 1:  # all begin with the limits of all
        own = [(part.partners, part.scores) for part in best]
        like = np.empty((0, count), np.int64), np.empty((0, count), np.float32)
        gathered = peers.gathered(own, [tile.stop - tile.start for tile in tiles], like=like)
        best = [RunningBest(partners=of, scores=scores, limit=scores.min(1)) for of, scores in gathered]
    pairs = peers.dealt(list(_pairs(num_tiles)))

    def search(pair: tuple[int, int]) -> tuple[Finds, Finds]:
        row, column = pair
        scores = sides(tiles[row])[0] @ sides(tiles[column])[1].T  # [T, T]
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
            progress((done + 1) * num_rows // len(pairs), num_rows)
    partners, least = np.empty((num_rows, count), np.int64), np.empty(num_rows, np.float32)
    for tile, part in zip(tiles, best, strict=True):
        part.merge()
        partners[tile], least[tile] = best_of_all(part.partners, part.scores, peers=peers)
    return partners, least


def _pairs(num_tiles: int) -> Iterator[tuple[int, int]]:
    """Each unordered pair of two tiles once, all pairs of neighbors first, then those two apart, and so on."""
    for distance in range(1, num_tiles // 2 + 1):
        twice = 2 * distance == num_tiles
        for row in range(distance if twice else num_tiles):
            yield row, (row + distance) % num_tiles

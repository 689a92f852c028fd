"""The best partners of each query among the rows of a table that is read a tile at a time.

Limits tighten from tile to tile, so that soon only the few scores above the limit of their query are looked at. A tile
takes its rows from all over the table: in a table sorted by class, the first tile already knows every class.

Letters: Q queries, D dimensions, N rows of the table, C rows of a tile, K partners.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.search.peers import ALONE, Peers, best_of_all
from contrastive_cli.embeddings.search.running_best import Finds, Indices, Scores, first_best, scores_above
from contrastive_cli.embeddings.search.threads import count_threads, map_in_threads

TILE_ROWS = 2048
TILE_VALUES = 2**25  # 128 MiB of float32 scores, in all threads together
RUNS = 32  # stretches of consecutive rows in a tile


def best_of_table(
    queries: Scores,
    table: Callable[[Indices], Scores],
    num_rows: int,
    *,
    count: int,
    own: Indices | None = None,
    peers: Peers = ALONE,
    progress: CountProgress | None = None,
) -> tuple[Indices, Scores]:
    """The `count` rows of the table with the largest scores for each query.

    Args:
        queries: [Q, D].
        table: Row numbers [C], ascending -> rows [C, D]; the score of a query and a row is their dot product. Called
            in several threads, once or twice for each row.
        num_rows: N.
        count: K, 1 <= K <= N, below N if `own` is given.
        own: [Q], a row of the table that is no partner of the query.
        peers: The processes that are dealt the tiles; each must have the same queries, and gets all that is found.
        progress: Called with (rows of the table done, N).

    Returns:
        Partners [Q, K], in no order, and the least of their scores [Q]: no other partner has a larger one.
    """
    first, *others = spread_tiles(num_rows, max(TILE_ROWS, 4 * count))
    step = int(np.clip(TILE_VALUES // count_threads() // len(first), 16, TILE_ROWS))
    blocks = [slice(start, min(start + step, len(queries))) for start in range(0, len(queries), step)]

    def scores(block: slice, members: Indices, rows: Scores) -> Scores:
        return _scores(queries[block], rows, members, own=None if own is None else own[block])

    # The first tile gives each query its first K partners, and so a limit.
    rows = table(first)
    best = list(map_in_threads(lambda block: first_best(scores(block, first, rows), first, count=count), blocks))

    # In each other tile only the scores above the limits are of interest; the limits rise as the finds are added.
    def search(members: Indices) -> list[Finds]:
        rows = table(members)
        found = []
        for block, so_far in zip(blocks, best, strict=True):
            local, columns, above = scores_above(scores(block, members, rows), so_far.limit[:, None])
            found.append((local, members[columns], above))
        return found

    done = len(first)
    dealt = peers.dealt(others)
    for members, found in zip(dealt, map_in_threads(search, dealt), strict=True):
        for so_far, finds in zip(best, found, strict=True):
            so_far.add(finds)
        done = min(done + peers.size * len(members), num_rows)
        if progress is not None:
            progress(done, num_rows)

    for so_far in best:
        so_far.merge()
    partners = np.concatenate([so_far.partners for so_far in best])
    found_scores = np.concatenate([so_far.scores for so_far in best])
    least = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), TILE_ROWS):  # not the blocks, which depend on the threads of a process
        part = slice(start, start + TILE_ROWS)
        partners[part], least[part] = best_of_all(partners[part], found_scores[part], peers=peers)
    return partners, least


def _scores(queries: Scores, rows: Scores, members: Indices, *, own: Indices | None) -> Scores:
    """Of queries [Q, D] and the rows [C, D] numbered `members`, [Q, C]; minus infinity for a query and its own row."""
    scores = queries @ rows.T
    if own is not None:
        places = np.searchsorted(members, own)
        places[places == len(members)] = 0
        found = np.flatnonzero(members[places] == own)
        scores[found, places[found]] = -np.inf
    return scores


def spread_tiles(num_rows: int, tile_rows: int) -> list[Indices]:
    """The numbers below `num_rows` in tiles [C] of at most `tile_rows`, each made of RUNS stretches far apart."""
    num_tiles = math.ceil(num_rows / tile_rows)
    runs = np.array_split(np.arange(num_rows), RUNS * num_tiles)
    return [np.concatenate(runs[tile::num_tiles]) for tile in range(num_tiles)]

"""All pairs of rows of a table whose cosine is at least a threshold, without the whole product of the table.

With unit rows u and v, P the projection on the directions of most variance and Q on the rest,
u . v = Pu . Pv + Qu . Qv <= Pu . Pv + |Qu| |Qv|. The right side is the product of short vectors (Pu, |Qu|): only pairs
for which it reaches the threshold are looked at in full, so none is missed and most of the work is saved.

Letters: N rows, D dimensions, R of the short vectors, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.search.threads import map_in_threads
from contrastive_cli.embeddings.similarity import unit_rows

TILE_ROWS = 2048
MOST_PAIRS = 1_000_000
SHORT = 48  # directions of most variance
SAMPLE = 20_000  # rows that the directions are taken from
GATHERED = 2**16  # candidates whose cosines are taken at a time
SLACK = 1e-5  # of float32 products of unit vectors

Floats = NDArray[np.float32]
Found = tuple[NDArray[np.int64], Floats]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NearPairs:
    """Pairs of rows, the nearest first.

    Attributes:
        positions: [P, 2] int64, the smaller row first.
        cosines: [P] float32, falling.
        threshold: What they are at least: what was asked, or more where there were too many pairs.
    """

    positions: NDArray[np.int64]
    cosines: Floats
    threshold: float


def pairs_above(
    vectors: NDArray[np.floating[Any]],
    threshold: float,
    *,
    most: int = MOST_PAIRS,
    progress: CountProgress | None = None,
) -> NearPairs:
    """Find the pairs of rows of [N, D] with a cosine of at least `threshold`; a zero row is in no pair.

    Of more than `most` pairs the nearest are kept, and the threshold rises to where they end: all pairs at or above
    the threshold that is returned are there.

    Args:
        vectors: [N, D], finite.
        threshold: In (0, 1].
        most: Pairs that are kept.
        progress: Called with (tiles done, all tiles).
    """
    units = unit_rows(vectors).astype(np.float32)
    short = _shortened(units)
    starts = range(0, len(units), TILE_ROWS)
    tiles = [(first, second) for first in starts for second in starts if first <= second]
    limit = threshold

    def join(tile: tuple[int, int]) -> Found:
        first, second = tile
        bounds = short[first : first + TILE_ROWS] @ short[second : second + TILE_ROWS].T
        flat = np.flatnonzero(bounds.ravel() >= limit - SLACK)
        rows, columns = np.divmod(flat, bounds.shape[1])
        rows, columns = rows + first, columns + second
        once = rows < columns
        rows, columns = rows[once], columns[once]
        cosines = np.concatenate(
            [
                np.einsum("pd,pd->p", units[rows[part]], units[columns[part]])
                for start in range(0, len(rows), GATHERED)
                for part in (slice(start, start + GATHERED),)
            ]
            or [np.zeros(0, np.float32)]
        )
        near = cosines >= limit
        return np.stack([rows[near], columns[near]], axis=1), cosines[near]

    kept: list[Found] = []
    held = 0
    for done, part in enumerate(map_in_threads(join, tiles), 1):
        kept.append(part)
        held += len(part[1])
        if held > most:
            best, limit = _nearest(kept, most, limit)
            kept, held = [best], len(best[1])
        if progress is not None:
            progress(done, len(tiles))
    (positions, cosines), limit = _nearest(kept, most, limit)
    return NearPairs(positions=positions, cosines=np.minimum(cosines, 1), threshold=limit)


def _shortened(units: Floats) -> Floats:
    """[N, D] -> [N, R + 1], whose products are at least those of the rows."""
    if units.shape[1] <= 2 * SHORT or len(units) <= SHORT:
        return units
    sample = units[:: max(1, len(units) // SAMPLE)].astype(np.float64)
    _, directions = np.linalg.eigh(sample.T @ sample)
    along = units @ directions[:, -SHORT:].astype(np.float32)
    rest = np.square(units).sum(axis=1) - np.square(along).sum(axis=1)
    return np.hstack([along, np.sqrt(np.maximum(rest, 0))[:, None]])


def _nearest(parts: list[Found], most: int, limit: float) -> tuple[Found, float]:
    """At most `most` pairs, the nearest first, and the threshold that all of them and no other reach."""
    positions = np.concatenate([np.zeros((0, 2), np.int64), *(part[0] for part in parts)])
    cosines = np.concatenate([np.zeros(0, np.float32), *(part[1] for part in parts)])
    order = np.lexsort((positions[:, 1], positions[:, 0], -cosines))
    if len(order) > most:
        limit = float(np.nextafter(cosines[order[most]], np.float32(2)))
        order = order[:most]
    order = order[cosines[order] >= np.float32(limit)]
    return (positions[order], cosines[order]), limit

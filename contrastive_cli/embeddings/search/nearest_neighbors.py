"""Exact nearest neighbors in numpy alone, and the weighted k-NN vote of Wu et al. 2018 (https://arxiv.org/abs/1805.01978).

Approximate indexes are left out: at the sizes this tool is made for, the exact search is a matter of seconds.
Letters: N vectors, Q queries, D dimensions, k neighbors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.pieces import read_pieces
from contrastive_cli.embeddings.search.exact_search import ExactSearch
from contrastive_cli.embeddings.search.peers import ALONE, Peers
from contrastive_cli.embeddings.search.self_join import TILE_ROWS
from contrastive_cli.embeddings.search.sides import Floats
from contrastive_cli.embeddings.search.threads import map_in_threads

SELF_JOIN_ROWS = 4096  # from here on it pays to use the symmetry of a search of the vectors among themselves
SELF_JOIN_VALUES = 2**30  # 4 GiB of float32, all in memory; beyond, the vectors are read in pieces
QUERIES_AT_ONCE = 2**14  # the vectors are read once for so many
ROWS_PER_RANK = 512
SLOW_VALUES = 2**24  # 128 MiB of float64
LARGEST_VALUE = 1e150  # the square of a larger value leaves float64


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbors:
    """The k nearest of each row, nearest first, equal distances by the lower index.

    Attributes:
        indices: [Q, k] int64, rows of the searched vectors.
        distances: [Q, k] float32; cosine distance 1 - cos in [0, 2], or euclidean distance.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]


def nearest_neighbors(
    vectors: Floats,
    *,
    k: int,
    metric: Metric = "cosine",
    queries: Floats | None = None,
    peers: Peers = ALONE,
    progress: CountProgress | None = None,
) -> Neighbors:
    """Find the k exact nearest rows of `vectors` for each query.

    Args:
        vectors: [N, D], any float type, a memory map is read in pieces.
        k: Neighbors per query, 1 <= k <= N (N - 1 without queries).
        metric: The cosine of a zero vector (norm below 1e-150) with anything is 0, its distance 1.
        queries: [Q, D]; None searches each vector among the others, itself excluded by its index.
        peers: The processes that share the work; each must have the same arrays, and gets all neighbors, which are
            those of one process to the bit.
        progress: Called with (queries done, Q), in proportion to the work.

    Raises:
        ValueError: If k is out of range or the metric is unknown.
        DataError: If an array is not two-dimensional and real, holds values that are not finite, or D differs.
    """
    check_search(vectors, queries, k=k, metric=metric)
    available = len(vectors) - (queries is None)
    search = ExactSearch.build(vectors, queries=queries, metric=metric, peers=peers)
    num_queries = len(search.queries)
    indices = np.empty((num_queries, k), np.int64)
    distances = np.empty((num_queries, k), np.float64)
    num_candidates = min(k + k // 4 + 8, available)
    by_symmetry = queries is None and len(vectors) >= SELF_JOIN_ROWS and vectors.size <= SELF_JOIN_VALUES
    if by_symmetry and num_candidates < TILE_ROWS:
        candidates, worst = search.candidates_of_all(num_candidates, progress=progress)
        indices[:], distances[:] = _rank(search, np.arange(num_queries), candidates, worst, k=k)
    else:
        for start in range(0, num_queries, QUERIES_AT_ONCE):
            rows = np.arange(start, min(start + QUERIES_AT_ONCE, num_queries))
            part = None if progress is None else _part_of(progress, rows, num_queries)
            candidates, worst = search.candidates(rows, num_candidates, progress=part)
            indices[rows], distances[rows] = _rank(search, rows, candidates, worst, k=k)
    if progress is not None:
        progress(num_queries, num_queries)
    with np.errstate(over="ignore"):  # beyond float32 a distance is inf
        return Neighbors(indices=indices, distances=distances.astype(np.float32))


def check_search(vectors: Floats, queries: Floats | None, *, k: int, metric: Metric) -> None:
    """Refuse what cannot be searched: vectors [N, D] and queries [Q, D].

    Raises:
        ValueError, DataError: As `nearest_neighbors`.
    """
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric must be 'cosine' or 'euclidean', not {metric!r}")
    _check(vectors, "vectors")
    if queries is not None:
        _check(queries, "queries")
        if queries.shape[1] != vectors.shape[1]:
            raise DataError(f"queries have {queries.shape[1]} dimensions, but vectors have {vectors.shape[1]}")
    available = len(vectors) - (queries is None)
    if not 1 <= k <= available:
        raise ValueError(f"k={k} neighbors asked, but {available} are available; choose k from 1 to {available}")


def _rank(
    search: ExactSearch, rows: NDArray[np.int64], candidates: NDArray[np.int64], worst: NDArray[np.float64], *, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices and distances [R, k] of the rows; those that the candidates do not prove are searched again."""
    indices, distances = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
    is_proved = np.empty(len(rows), np.bool_)
    like = indices[:0], distances[:0], is_proved[:0]
    blocks = [np.arange(start, min(start + ROWS_PER_RANK, len(rows))) for start in range(0, len(rows), ROWS_PER_RANK)]
    ranked = list(
        map_in_threads(
            lambda block: search.rank(rows[block], candidates[block], worst[block], k=k), search.peers.dealt(blocks)
        )
    )
    lengths = [len(block) for block in blocks]
    for block, found in zip(blocks, search.peers.gathered(ranked, lengths, like=like), strict=True):
        indices[block], distances[block], is_proved[block] = found
    missing = np.flatnonzero(~is_proved)
    step = int(np.clip(SLOW_VALUES // len(search.vectors), 1, 1024))
    blocks = [missing[start : start + step] for start in range(0, len(missing), step)]
    slowly = [search.slow(rows[block], k=k) for block in search.peers.dealt(blocks)]
    lengths = [len(block) for block in blocks]
    for block, (nearest, near) in zip(blocks, search.peers.gathered(slowly, lengths, like=like[:2]), strict=True):
        indices[block], distances[block] = nearest, near
    return indices, distances


def _part_of(progress: CountProgress, rows: NDArray[np.int64], num_queries: int) -> CountProgress:
    return lambda done, total: progress(int(rows[0]) + len(rows) * done // total, num_queries)


def _check(array: Floats, name: str) -> None:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise DataError(f"{name} must be a table of real numbers [N, D], not {array.dtype} of shape {array.shape}")
    for start, chunk in read_pieces(array):
        if not (float(chunk.min()) >= -LARGEST_VALUE and float(chunk.max()) <= LARGEST_VALUE):  # so for nan too
            usable = (np.abs(chunk.astype(np.float64)) <= LARGEST_VALUE).all(1)
            bad = (start + np.flatnonzero(~usable)[:5]).tolist()
            raise DataError(f"{name} hold values that are not finite or beyond {LARGEST_VALUE:g}, first in rows {bad}")

"""Approximate search for tables so large that comparing all pairs takes too long, with its recall measured.

Nearest-neighbor descent (Dong, Moses and Li 2011, https://doi.org/10.1145/1963405.1963487) as pynndescent has it: a
graph of guessed neighbors is improved by looking at neighbors of neighbors. What it finds is ranked by distances in
float64, as exact search ranks; what it misses is told by an exact search for some of the queries.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.embeddings.pieces import read_chunks
from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors, check_search, nearest_neighbors
from contrastive_cli.embeddings.search.sides import CosineSides, EuclideanSides, Floats

CHECKED = 1000  # queries that are searched exactly too
GRAPH_NEIGHBORS = 30  # of each vector in the graph, at least
EPSILON = 0.2  # how much farther than the k-th find a search goes on, relative to its distance
SEED = 0
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ApproximateNeighbors:
    """What was found, and the part of the true neighbors that is among it, for some queries.

    Attributes:
        neighbors: Indices and distances [Q, k]; distances are exact.
        recall: In [0, 1].
        checked: How many queries it was measured on.
    """

    neighbors: Neighbors
    recall: float
    checked: int


def approximate_neighbors(
    vectors: Floats, *, k: int, metric: Metric = "cosine", queries: Floats | None = None
) -> ApproximateNeighbors:
    """Find most of the k nearest rows of `vectors` for each query, the same ones at each call.

    Args:
        vectors: [N, D], any float type.
        k: Neighbors per query, 1 <= k <= N (N - 1 without queries).
        metric: As in exact search.
        queries: [Q, D]; None searches each vector among the others, itself excluded by its index.

    Raises:
        ValueError, DataError: As exact search.
    """
    check_search(vectors, queries, k=k, metric=metric)
    indices = _descend(vectors, k=k, metric=metric, queries=queries)
    asked = vectors if queries is None else queries
    incomplete = np.flatnonzero((indices < 0).any(1))
    if len(incomplete):  # the graph has parts from which nothing leads on
        indices[incomplete] = _exact(vectors, asked, incomplete, k=k, metric=metric, own=queries is None).indices
    neighbors = _ranked(vectors, asked, indices, metric=metric)
    checked = np.sort(np.random.default_rng(SEED).permutation(len(asked))[:CHECKED])
    true = _exact(vectors, asked, checked, k=k, metric=metric, own=queries is None)
    # A neighbor at the distance of the k-th true one is as good as that one.
    limit = true.distances[:, -1:].astype(np.float64) * (1 + 1e-6) + 1e-9
    recall = float((neighbors.distances[checked] <= limit).mean())
    return ApproximateNeighbors(neighbors=neighbors, recall=recall, checked=len(checked))


def _descend(vectors: Floats, *, k: int, metric: Metric, queries: Floats | None) -> NDArray[np.int64]:
    """[Q, k] rows of `vectors`, -1 where none was found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, which compiles
        from pynndescent import NNDescent

        table = np.ascontiguousarray(vectors, np.float32)
        width = min(max(GRAPH_NEIGHBORS, k + 1), len(vectors))
        graph = NNDescent(table, metric=metric, n_neighbors=width, random_state=SEED, low_memory=True)
        if queries is not None:
            found, _ = graph.query(np.ascontiguousarray(queries, np.float32), k=k, epsilon=EPSILON)
            return np.asarray(found, np.int64)
        found = np.asarray(graph.neighbor_graph[0], np.int64)
    is_other = found != np.arange(len(found))[:, None]
    is_other &= np.cumsum(is_other, axis=1) <= k
    indices = np.full((len(found), k), -1, np.int64)
    rows, columns = np.nonzero(is_other)
    indices[rows, np.cumsum(is_other, axis=1)[rows, columns] - 1] = found[rows, columns]
    return indices


def _exact(vectors: Floats, asked: Floats, rows: NDArray[np.int64], *, k: int, metric: Metric, own: bool) -> Neighbors:
    """The true neighbors of some rows of `asked`, which are rows of `vectors` themselves if `own`."""
    found = nearest_neighbors(vectors, k=min(k + own, len(vectors)), metric=metric, queries=asked[rows])
    if not own:
        return found
    # Without the row itself; where equal vectors have pushed it out, without the last.
    is_self = found.indices == rows[:, None]
    is_self[~is_self.any(1), -1] = True
    keep = ~is_self
    return Neighbors(
        indices=found.indices[keep].reshape(len(rows), -1), distances=found.distances[keep].reshape(len(rows), -1)
    )


def _ranked(vectors: Floats, asked: Floats, indices: NDArray[np.int64], *, metric: Metric) -> Neighbors:
    """The finds in the order of their distances, the lower row first among equal ones."""
    sides = CosineSides.of(vectors) if metric == "cosine" else EuclideanSides.of(vectors, None)
    indices = np.sort(indices, axis=1)
    distances = np.empty(indices.shape)
    for start, chunk in read_chunks(asked):
        for first in range(0, len(chunk), ROWS_AT_ONCE):
            rows = slice(start + first, start + min(first + ROWS_AT_ONCE, len(chunk)))
            near = indices[rows]
            others = np.asarray(vectors[near], np.float64)
            distances[rows] = sides.distances(chunk[first : first + ROWS_AT_ONCE], others, near)
    order = np.argsort(distances, axis=1, kind="stable")
    return Neighbors(
        indices=np.take_along_axis(indices, order, 1),
        distances=np.take_along_axis(distances, order, 1).astype(np.float32),
    )

"""Images looked up in a table that may hold them already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from contrastive_cli.core.choices import Metric
from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors, nearest_neighbors
from contrastive_cli.embeddings.search.sides import Floats

NEARLY_EQUAL = 0.05  # of the length of a vector, what another batch may change in half precision


def nearest_others(
    vectors: Floats, looked_up: Floats, *, names: Sequence[str] | None, queries: Sequence[str], k: int, metric: Metric
) -> tuple[Neighbors, int]:
    """The k nearest rows of each query, which is left out where the table holds it.

    A row is the query itself if its name ends the query's path and its vector is nearly the same.

    Args:
        vectors: [N, D].
        looked_up: [Q, D].
        names: N names of the rows, or None.
        queries: Absolute paths of the Q queries; empty to leave out nothing.
        k: Neighbors per query, 1 <= k <= N.
        metric: cosine or euclidean.

    Returns:
        The neighbors, and how many queries were left out; with one in the table and k = N, N - 1 neighbors of all.
    """
    own = [_own_row(path, names) for path in queries] if names is not None else []
    wanted = min(k + bool(any(own)), len(vectors))
    found = nearest_neighbors(vectors, k=wanted, metric=metric, queries=looked_up)
    keep = np.ones(found.indices.shape, dtype=bool)
    for row, candidates in enumerate(own):
        for position, index in enumerate(found.indices[row].tolist()):
            if index in candidates and _nearly_equal(vectors[index], looked_up[row]):
                keep[row, position] = False
                break
    num_left_out = int((~keep).any(axis=1).sum())
    width = min(k, wanted - 1) if num_left_out and wanted <= k else k
    first = np.argsort(~keep, axis=1, kind="stable")[:, :width]
    return (
        replace(
            found,
            indices=np.take_along_axis(found.indices, first, axis=1),
            distances=np.take_along_axis(found.distances, first, axis=1),
        ),
        num_left_out,
    )


def _own_row(path: str, names: Sequence[str]) -> set[int]:
    """The rows whose name ends the path."""
    parts = PurePath(path).parts
    last = parts[-1] if parts else ""
    return {
        index
        for index, name in enumerate(names)
        if name.endswith(last) and (own := PurePath(name).parts) and parts[-len(own) :] == own
    }


def _nearly_equal(first: Floats, second: Floats) -> bool:
    return float(np.linalg.norm(first - second)) <= NEARLY_EQUAL * float(np.linalg.norm(first))

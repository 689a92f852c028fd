"""Equal distances go by the lower index, whatever the last digits of a product say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.embeddings.search.exact_search import ExactSearch
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors

DIRECTIONS, COPIES, K = 20, 60, 3


def scaled_copies() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vectors [N, D] of a few directions in many lengths, mixed, and the direction [N] of each."""
    generator = np.random.default_rng(0)
    direction = generator.permutation(np.repeat(np.arange(DIRECTIONS), COPIES))
    lengths = generator.uniform(0.1, 10, len(direction))
    return generator.standard_normal((DIRECTIONS, 24))[direction] * lengths[:, None], direction


def lowest_of_its_kind(kind: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N, K]: the first other rows of each row's kind."""
    members = [np.flatnonzero(kind == number) for number in range(kind.max() + 1)]
    return np.stack([members[number][members[number] != row][:K] for row, number in enumerate(kind)])


def test_slow__parallel_vectors_are_equally_near() -> None:
    vectors, direction = scaled_copies()
    rows = np.arange(len(vectors))
    indices, distances = ExactSearch.build(vectors, queries=None, metric="cosine").slow(rows, k=K)
    np.testing.assert_array_equal(indices, lowest_of_its_kind(direction))
    assert (distances == 0).all()


def test_nearest_neighbors__parallel_vectors_go_by_index() -> None:
    vectors, direction = scaled_copies()
    found = nearest_neighbors(vectors, k=K, metric="cosine")
    np.testing.assert_array_equal(found.indices, lowest_of_its_kind(direction))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_neighbors__copies_go_by_index_among_queries_too(metric: Metric) -> None:
    base = np.random.default_rng(1).standard_normal((DIRECTIONS, 16))
    vectors = np.tile(base, (30, 1))
    found = nearest_neighbors(vectors, k=K, metric=metric, queries=base)
    np.testing.assert_array_equal(found.indices, np.arange(DIRECTIONS)[:, None] + DIRECTIONS * np.arange(K))
    assert float(found.distances.max()) == 0


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("count", [6, 300])
def test_nearest_neighbors__copies_further_down_go_by_index(metric: Metric, count: int) -> None:
    """Every vector three times: the copies of a neighbor, at places 3 to 5 and so on, are proved near and in order."""
    base = np.random.default_rng(2).standard_normal((count, 8))
    vectors = np.random.default_rng(3).permutation(np.tile(base, (3, 1)))
    k = 11
    found = nearest_neighbors(vectors, k=k, metric=metric)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    points = unit if metric == "cosine" else vectors
    distances = np.linalg.norm(points[:, None] - points[None], axis=2).round(9)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1, kind="stable")[:, :k])

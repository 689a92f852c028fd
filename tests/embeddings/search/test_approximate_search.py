"""Approximate neighbors: near the exact ones, honest about how near, the same at each call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clr_process import Clr

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.search.approximate_search import approximate_neighbors
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors

pytestmark = pytest.mark.slow  # numba compiles pynndescent anew in each process: most of a minute

N, Q, D, K = 1500, 100, 16, 10


def table(count: int, *, seed: int) -> np.ndarray:
    """Vectors of twenty clusters."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(7).normal(size=(20, D))
    return (centers[generator.integers(20, size=count)] + 0.5 * generator.normal(size=(count, D))).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("with_queries", [False, True])
def test_approximate_neighbors__beside_exact_ones(metric: Metric, with_queries: bool) -> None:
    vectors = table(N, seed=0)
    queries = table(Q, seed=1) if with_queries else None
    found = approximate_neighbors(vectors, k=K, metric=metric, queries=queries)
    exact = nearest_neighbors(vectors, k=K, metric=metric, queries=queries)
    shared = [np.isin(ours, true).mean() for ours, true in zip(found.neighbors.indices, exact.indices, strict=True)]
    assert np.mean(shared) > 0.9
    assert found.checked == min(1000, len(exact.indices))
    if with_queries:  # all of them were checked
        assert found.recall == pytest.approx(np.mean(shared), abs=1e-3)
    same = found.neighbors.indices == exact.indices
    np.testing.assert_array_equal(found.neighbors.distances[same], exact.distances[same])
    assert (np.diff(found.neighbors.distances, axis=1) >= 0).all()
    if not with_queries:
        assert not (found.neighbors.indices == np.arange(N)[:, None]).any()
    again = approximate_neighbors(vectors, k=K, metric=metric, queries=queries)
    assert np.array_equal(found.neighbors.indices, again.neighbors.indices)


def test_approximate_neighbors__equal_and_few_vectors() -> None:
    vectors = np.concatenate([np.ones((50, 4)), table(100, seed=2)[:, :4]]).astype(np.float32)
    found = approximate_neighbors(vectors, k=5)
    rows = found.neighbors.indices
    assert ((rows >= 0) & (rows < 150)).all()
    assert all(len(set(row)) == 5 for row in rows.tolist())
    assert not (rows == np.arange(150)[:, None]).any()
    few = approximate_neighbors(vectors[48:52], k=3)
    assert np.array_equal(np.sort(few.neighbors.indices, axis=1), [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    assert few.recall == 1


def test_approximate_neighbors__refuses_as_exact_search() -> None:
    vectors = table(40, seed=0)
    with pytest.raises(ValueError, match="k=40"):
        approximate_neighbors(vectors, k=40)
    vectors[3, 2] = np.nan
    with pytest.raises(DataError, match="row"):
        approximate_neighbors(vectors, k=4)


def test_knn__approximate_says_its_recall(clr: Clr, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", table(400, seed=3))
    done = clr("knn", "v.npy", "-k", "5", "--approximate", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert 0.9 < done.json["recall"] <= 1
    assert "of the true neighbors of 400 queries are found" in done.err
    assert (tmp_path / "v-neighbors.pkl").exists()
    assert clr("knn", "v.npy", "--query", "a.png", "--approximate", cwd=tmp_path).code == 2

"""Exact neighbors against scikit-learn and a slow oracle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings import pieces
from contrastive_cli.embeddings.search import exact_search, query_join
from contrastive_cli.embeddings.search import nearest_neighbors as knn
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors

METRICS: list[Metric] = ["cosine", "euclidean"]


def slow_distances(queries: NDArray[Any], vectors: NDArray[Any], metric: Metric) -> NDArray[np.float64]:
    distances = np.empty((len(queries), len(vectors)))
    for i, a in enumerate(queries.astype(np.float64)):
        for j, b in enumerate(vectors.astype(np.float64)):
            product = np.sqrt(a @ a) * np.sqrt(b @ b)
            cosine = a @ b / product if product > 0 else 0.0
            distances[i, j] = 1 - cosine if metric == "cosine" else np.sqrt(((a - b) ** 2).sum())
    return distances


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("num_vectors", "k"), [(3000, 5), (5000, 20), (60, 59)])
def test_nearest_neighbors__matches_sklearn(metric: Metric, num_vectors: int, k: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((num_vectors, 24)).astype(np.float32)
    found = nearest_neighbors(vectors, k=k, metric=metric)
    model = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(vectors.astype(np.float64))
    distances, indices = model.kneighbors()
    np.testing.assert_allclose(found.distances, distances, atol=1e-5)
    assert np.array_equal(found.indices, indices)
    assert (found.indices.dtype, found.distances.dtype) == (np.int64, np.float32)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_neighbors__queries_match_sklearn(metric: Metric) -> None:
    generator = np.random.default_rng(1)
    vectors, queries = generator.standard_normal((900, 8)), 3 * generator.standard_normal((50, 8))
    found = nearest_neighbors(vectors, k=7, metric=metric, queries=queries)
    model = NearestNeighbors(n_neighbors=7, algorithm="brute", metric=metric).fit(vectors)
    distances, indices = model.kneighbors(queries)
    np.testing.assert_allclose(found.distances, distances, atol=1e-6)
    assert np.array_equal(found.indices, indices)


SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)
VALUES = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e6, 1e6, width=32))


@settings(max_examples=150, deadline=None)
@given(vectors=arrays(np.float32, SHAPES, elements=VALUES), metric=st.sampled_from(METRICS), data=st.data())
def test_nearest_neighbors__any_array(vectors: NDArray[np.float32], metric: Metric, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(vectors) - 1))
    found = nearest_neighbors(vectors, k=k, metric=metric)
    oracle = slow_distances(vectors, vectors, metric)
    np.fill_diagonal(oracle, np.inf)
    tolerance = 1e-6 * max(1.0, float(np.abs(vectors).max())) if metric == "euclidean" else 1e-6
    np.testing.assert_allclose(found.distances, np.sort(oracle, axis=1)[:, :k], atol=tolerance, rtol=1e-6)
    np.testing.assert_allclose(found.distances, np.take_along_axis(oracle, found.indices, 1), atol=tolerance, rtol=1e-6)
    assert all(len(set(row)) == k for row in found.indices.tolist())
    assert (np.diff(found.distances, axis=1) >= 0).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_nearest_neighbors__equal_distances_by_lower_index(metric: Metric, offset: float) -> None:
    distinct = np.random.default_rng(2).standard_normal((40, 16)) + offset
    vectors = np.tile(distinct, (70, 1)).astype(np.float32)  # 70 copies: more than there are candidates
    found = nearest_neighbors(vectors, k=6, metric=metric)
    assert not found.distances.any()
    for row in (0, 45, 2799):
        copies = [copy for copy in range(row % 40, 2800, 40) if copy != row]
        assert found.indices[row].tolist() == copies[:6]


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_neighbors__collapsed_embeddings(metric: Metric) -> None:
    generator = np.random.default_rng(3)
    vectors = np.ones((1500, 8)) + 1e-7 * generator.standard_normal((1500, 8))  # below the resolution of float32
    found = nearest_neighbors(vectors, k=4, metric=metric)
    oracle = ((vectors[:, None] - vectors) ** 2).sum(2) ** 0.5
    if metric == "cosine":
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        oracle = 0.5 * ((units[:, None] - units) ** 2).sum(2)
    np.fill_diagonal(oracle, np.inf)
    np.testing.assert_allclose(found.distances, np.sort(oracle, axis=1)[:, :4], atol=2e-12, rtol=1e-6)


def test_nearest_neighbors__offset_takes_no_digits() -> None:
    vectors = np.random.default_rng(4).standard_normal((2000, 16))
    plain, moved = (nearest_neighbors(vectors + shift, k=5, metric="euclidean") for shift in (0.0, 1e6))
    assert np.array_equal(plain.indices, moved.indices)
    np.testing.assert_allclose(plain.distances, moved.distances, rtol=1e-6)


def test_nearest_neighbors__zero_vectors() -> None:
    vectors = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 0]])
    found = nearest_neighbors(vectors, k=3)
    assert found.distances.tolist() == [[1, 1, 1], [1, 1, 2], [1, 1, 2], [1, 1, 1]]
    assert found.indices.tolist() == [[1, 2, 3], [0, 3, 2], [0, 3, 1], [0, 1, 2]]


def test_nearest_neighbors__zero_query() -> None:
    found = nearest_neighbors(np.eye(3), k=2, queries=np.zeros((1, 3)))
    assert (found.indices.tolist(), found.distances.tolist()) == ([[0, 1]], [[1, 1]])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("factor", [1e-100, 1e100])
def test_nearest_neighbors__any_scale(metric: Metric, factor: float) -> None:
    vectors = np.random.default_rng(5).standard_normal((500, 8))
    plain = nearest_neighbors(vectors, k=3, metric=metric)
    assert np.array_equal(nearest_neighbors(vectors * factor, k=3, metric=metric).indices, plain.indices)


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_neighbors__pieces_do_not_matter(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(6).standard_normal((997, 12)).astype(np.float32)
    whole = nearest_neighbors(vectors, k=9, metric=metric)
    monkeypatch.setattr(knn, "QUERIES_AT_ONCE", 300)
    monkeypatch.setattr(knn, "ROWS_PER_RANK", 70)
    monkeypatch.setattr(query_join, "TILE_VALUES", 1)
    monkeypatch.setattr(query_join, "TILE_ROWS", 50)
    monkeypatch.setattr(pieces, "ROWS_PER_READ", 100)
    monkeypatch.setattr(exact_search, "GATHER_VALUES", 1)
    seen: list[tuple[int, int]] = []
    in_pieces = nearest_neighbors(vectors, k=9, metric=metric, progress=lambda done, total: seen.append((done, total)))
    assert np.array_equal(whole.indices, in_pieces.indices)
    np.testing.assert_allclose(whole.distances, in_pieces.distances, rtol=1e-6)
    assert [total for _, total in seen] == [997] * len(seen)
    assert sorted(seen) == seen
    assert len(seen) > 40
    assert seen[-1] == (997, 997)


def test_nearest_neighbors__float32_proof_agrees_with_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(7).standard_normal((1200, 10)).astype(np.float32)
    fast = nearest_neighbors(vectors, k=5, metric="euclidean")
    unprovable = np.finfo(np.float32)
    monkeypatch.setattr(exact_search, "rounding_error", lambda _: float(unprovable.eps) * 1e7)
    slow = nearest_neighbors(vectors, k=5, metric="euclidean")
    assert np.array_equal(fast.indices, slow.indices)
    np.testing.assert_array_equal(fast.distances, slow.distances)


def test_nearest_neighbors__memory_map_of_halves(tmp_path: Path) -> None:
    vectors = np.random.default_rng(8).standard_normal((300, 6)).astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = nearest_neighbors(np.load(tmp_path / "vectors.npy", mmap_mode="r"), k=4)
    plain = nearest_neighbors(vectors.astype(np.float64), k=4)
    assert np.array_equal(mapped.indices, plain.indices)


def test_nearest_neighbors__does_not_write_its_input() -> None:
    vectors = np.random.default_rng(9).standard_normal((50, 4))
    vectors.flags.writeable = False
    assert nearest_neighbors(vectors, k=2, metric="euclidean").indices.shape == (50, 2)


def test_nearest_neighbors__rows_not_finite() -> None:
    vectors = np.ones((10, 3), np.float32)
    vectors[[2, 7], 1] = np.nan, np.inf
    with pytest.raises(DataError, match=r"rows \[2, 7\]"):
        nearest_neighbors(vectors, k=1)


@pytest.mark.parametrize("k", [0, 4])
def test_nearest_neighbors__k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"k={k} .* 3 are available"):
        nearest_neighbors(np.eye(4), k=k)


def test_nearest_neighbors__dimensions_differ() -> None:
    with pytest.raises(DataError, match="3 dimensions, but vectors have 4"):
        nearest_neighbors(np.eye(4), k=1, queries=np.eye(3))


@pytest.mark.parametrize("array", [np.ones(3), np.ones((2, 2), np.complex128), np.array([["a", "b"]]), np.ones((3, 0))])
def test_nearest_neighbors__not_a_table(array: NDArray[Any]) -> None:
    with pytest.raises(DataError, match="table of real numbers"):
        nearest_neighbors(array, k=1)


def test_nearest_neighbors__leaves_torch_alone() -> None:
    code = (
        "import sys, numpy as np; from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors;"
        "nearest_neighbors(np.eye(9), k=2); sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

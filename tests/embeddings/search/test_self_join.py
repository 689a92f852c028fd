"""The symmetric search of a table among itself: against a full sort, in any order of the rows, with ties."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.embeddings.search import nearest_neighbors as knn
from contrastive_cli.embeddings.search import query_join, self_join
from contrastive_cli.embeddings.search.exact_search import ExactSearch
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.embeddings.search.running_best import first_best
from contrastive_cli.embeddings.search.self_join import best_partners
from contrastive_cli.embeddings.search.sides import SMALLEST_NORM


def rows(num_rows: int, dimensions: int = 6, *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((num_rows, dimensions)).astype(np.float32)


def both_sides(points: NDArray[np.float32]) -> Callable[[slice], tuple[NDArray[np.float32], NDArray[np.float32]]]:
    return lambda tile: (points[tile], points[tile])


def slow_scores(points: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """The `count` largest scores of each row, ascending."""
    scores = points.astype(np.float64) @ points.T
    np.fill_diagonal(scores, -np.inf)
    return np.sort(scores, axis=1)[:, -count:]


@pytest.mark.parametrize(("num_rows", "count"), [(2, 1), (10, 9), (33, 3), (64, 5), (101, 7), (160, 30)])
@pytest.mark.parametrize("tile_rows", [1, 8, 32, 1000])
def test_best_partners__are_the_largest_of_a_full_sort(
    num_rows: int, count: int, tile_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_join, "TILE_ROWS", tile_rows)
    points = rows(num_rows)
    partners, least = best_partners(both_sides(points), len(points), count=count)
    expected = slow_scores(points, count)
    assert all(len(set(row)) == count and number not in row for number, row in enumerate(partners.tolist()))
    found = np.sort((points.astype(np.float64)[:, None] * points[partners]).sum(2), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(least, expected[:, 0], atol=1e-5)


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_best_partners__rows_in_the_worst_order(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms that rise from tile to tile make every tile better than all before."""
    monkeypatch.setattr(self_join, "TILE_ROWS", 16)
    points = np.abs(rows(200)) * np.linspace(0.1, 3, 200, dtype=np.float32)[:: 1 if order == "ascending" else -1, None]
    _, least = best_partners(both_sides(points), len(points), count=12)
    np.testing.assert_allclose(least, slow_scores(points, 12)[:, 0], rtol=1e-5)


def test_best_partners__equal_rows_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_join, "TILE_ROWS", 16)
    points = np.repeat(rows(1), 100, axis=0)
    seen: list[tuple[int, int]] = []
    partners, least = best_partners(
        both_sides(points), len(points), count=4, progress=lambda done, total: seen.append((done, total))
    )
    assert all(len({number, *row}) == 5 for number, row in enumerate(partners.tolist()))
    np.testing.assert_allclose(least, (points[0] ** 2).sum(), rtol=1e-6)
    assert seen == sorted(seen)
    assert seen[-1] == (100, 100)


def test_best_partners__one_row_with_all_the_finds_takes_little_memory() -> None:
    """Nearly all finds of a tile fall to one row; the rest of the tile must not be padded to their number."""
    part = first_best(rows(50) @ rows(50).T, np.arange(50), count=5)
    generator = np.random.default_rng(0)
    partners, scores = 50 + np.arange(40_000), 100 + generator.standard_normal(40_000).astype(np.float32)
    chosen = np.full(40_000, 7)
    chosen[3] = 8
    before = part.scores.copy()
    tracemalloc.start()
    part.add((chosen, partners, scores))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000  # 40,000 columns for 50 rows would be 24 MB and more
    assert set(part.partners[7]) == set(partners[chosen == 7][np.argsort(scores[chosen == 7])[-5:]])
    assert partners[3] in part.partners[8]
    untouched = [row for row in range(50) if row not in (7, 8)]
    assert np.array_equal(np.sort(part.scores[untouched]), np.sort(before[untouched]))


def test_nearest_neighbors__as_many_as_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "SELF_JOIN_ROWS", 0)
    points = rows(300)
    for tile_rows in (16, 2048):  # more candidates than rows of a tile take the other way
        monkeypatch.setattr(knn, "TILE_ROWS", tile_rows)
        monkeypatch.setattr(self_join, "TILE_ROWS", tile_rows)
        found = nearest_neighbors(points, k=299)
        assert all(sorted([number, *row]) == list(range(300)) for number, row in enumerate(found.indices.tolist()))
        assert (np.diff(found.distances, axis=1) >= 0).all()


def same_classes(num_rows: int) -> NDArray[np.float32]:
    """Clusters far from the origin, duplicates among them, sorted by cluster."""
    generator = np.random.default_rng(1)
    centers = 5 + generator.standard_normal((7, 24))
    points = centers[np.sort(generator.integers(7, size=num_rows))] + 0.1 * generator.standard_normal((num_rows, 24))
    points[10:14] = points[500]
    points[20] = 0
    return points.astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_neighbors__by_symmetry_equals_row_by_row(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    points = same_classes(1500)
    plain = nearest_neighbors(points, k=20, metric=metric)
    monkeypatch.setattr(knn, "SELF_JOIN_ROWS", 0)
    monkeypatch.setattr(self_join, "TILE_ROWS", 128)
    joined = nearest_neighbors(points, k=20, metric=metric)
    assert np.array_equal(plain.indices, joined.indices)
    assert np.array_equal(plain.distances, joined.distances)


@pytest.mark.parametrize("by_symmetry", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_candidates__the_limit_holds_for_everyone_left_out(
    metric: Metric, by_symmetry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the proof rests on: in float64, nobody outside of the candidates is nearer than the limit says."""
    points = same_classes(600)
    search = ExactSearch.build(points, queries=None, metric=metric)
    monkeypatch.setattr(query_join, "TILE_ROWS", 64)
    candidates, limit = search.candidates_of_all(10) if by_symmetry else search.candidates(np.arange(600), 10)
    exact = points.astype(np.float64)
    if metric == "cosine":
        unit = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), SMALLEST_NORM)
        half_square, floor = 1 - unit @ unit.T, 1 - search.error
    else:
        scaled = search.sides.ready(exact)
        half_square = 0.5 * ((scaled[:, None] - scaled) ** 2).sum(2)
        floor = (1 - search.error) * 0.5 * (scaled**2).sum(1)
    np.put_along_axis(half_square, candidates, np.inf, axis=1)
    np.fill_diagonal(half_square, np.inf)
    assert (half_square.min(1) >= floor - limit - 1e-12).all()


@pytest.mark.parametrize("by_symmetry", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_candidates__ordinary_rows_are_proved(metric: Metric, by_symmetry: bool) -> None:
    points = rows(1200, 64, seed=7)
    search = ExactSearch.build(points, queries=None, metric=metric)
    candidates, limit = search.candidates_of_all(20) if by_symmetry else search.candidates(np.arange(1200), 20)
    assert search.rank(np.arange(1200), candidates, limit, k=10)[2].all()

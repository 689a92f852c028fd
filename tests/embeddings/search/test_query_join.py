"""The search of a table for queries, a tile at a time: against a full sort, in any order of the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contrastive_cli.embeddings.pieces import release
from contrastive_cli.embeddings.search import query_join
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.embeddings.search.query_join import best_of_table, spread_tiles


def rows(num_rows: int, dimensions: int = 6, *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((num_rows, dimensions)).astype(np.float32)


@pytest.mark.parametrize(("num_queries", "num_rows", "count"), [(1, 1, 1), (3, 40, 40), (50, 333, 5), (100, 1000, 30)])
@pytest.mark.parametrize("tile_rows", [1, 16, 100, 2000])
def test_best_of_table__is_the_largest_of_a_full_sort(
    num_queries: int, num_rows: int, count: int, tile_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_join, "TILE_ROWS", tile_rows)
    queries, table = rows(num_queries, seed=1), rows(num_rows)
    seen: list[tuple[int, int]] = []
    partners, least = best_of_table(
        queries,
        lambda members: table[members],
        num_rows,
        count=count,
        progress=lambda done, total: seen.append((done, total)),
    )
    expected = np.sort(queries.astype(np.float64) @ table.T, axis=1)[:, -count:]
    found = np.sort((queries.astype(np.float64)[:, None] * table[partners]).sum(2), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(least, expected[:, 0], atol=1e-5)
    assert all(len(set(row)) == count for row in partners.tolist())
    assert not seen or seen[-1] == (num_rows, num_rows)


@pytest.mark.parametrize("order", [1, -1])
def test_best_of_table__rows_in_the_worst_order(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms that rise make every row better than all before."""
    monkeypatch.setattr(query_join, "TILE_ROWS", 16)
    table = np.abs(rows(3000)) * np.linspace(0.1, 3, 3000, dtype=np.float32)[::order, None]
    queries = np.abs(rows(20, seed=2))
    _, least = best_of_table(queries, lambda members: table[members], 3000, count=12)
    np.testing.assert_allclose(least, np.sort(queries @ table.T, axis=1)[:, -12], rtol=1e-5)


def test_best_of_table__own_rows_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_join, "TILE_ROWS", 16)
    table = rows(200)
    own = np.random.default_rng(0).permutation(200)
    partners, least = best_of_table(table[own], lambda members: table[members], 200, count=7, own=own)
    scores = table.astype(np.float64) @ table.T
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_allclose(least, np.sort(scores, axis=1)[own, -7], atol=1e-5)
    assert not (partners == own[:, None]).any()


@pytest.mark.parametrize(("num_rows", "tile_rows"), [(1, 1), (7, 3), (100, 100), (1001, 64), (5000, 2048)])
def test_spread_tiles__each_row_once_and_from_all_over(num_rows: int, tile_rows: int) -> None:
    tiles = spread_tiles(num_rows, tile_rows)
    assert np.array_equal(np.sort(np.concatenate(tiles)), np.arange(num_rows))
    assert all((np.diff(tile) > 0).all() for tile in tiles)
    assert max(map(len, tiles)) == len(tiles[0]) <= tile_rows + query_join.RUNS
    if num_rows > 1000:
        for tile in tiles:
            assert np.histogram(tile, bins=10, range=(0, num_rows))[0].min() > 0


def test_release__keeps_what_was_changed(tmp_path: Path) -> None:
    """Pages of a map that copies on writing hold the only copy of a change."""
    np.save(tmp_path / "table.npy", rows(400))
    for mode in ("c", "r+"):
        table = np.load(tmp_path / "table.npy", mmap_mode=mode)
        table[3] = 7
        nearest_neighbors(table, k=2)
        release(table)
        assert (table[3] == 7).all()

"""All near pairs, against the whole product; groups, against scipy's complete linkage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from contrastive_cli.embeddings.search import pairs_above as module
from contrastive_cli.embeddings.search.linked_groups import complete_link_groups
from contrastive_cli.embeddings.search.pairs_above import pairs_above


def clustered(count: int, dimensions: int, *, seed: int = 0) -> np.ndarray:
    """Rows around a few centers, so that there are pairs at every distance; two zero rows and two equal ones."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(count // 6, dimensions))
    scale = random.uniform(0.02, 1, (count, 1))
    rows = centers[random.integers(0, len(centers), count)] + scale * random.normal(size=(count, dimensions))
    rows[3], rows[7] = 0, 0
    rows[11] = rows[20]
    return rows.astype(np.float32)


def all_cosines(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    units = rows / np.where(norms > 0, norms, 1)[:, None]
    return units @ units.T


@pytest.mark.parametrize("dimensions", [5, 96, 97, 300])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.98])
def test_pairs_above__are_those_of_the_whole_product(
    dimensions: int, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE_ROWS", 64)
    monkeypatch.setattr(module, "GATHERED", 100)
    rows = clustered(400, dimensions)
    cosines = all_cosines(rows)
    first, second = np.nonzero(np.triu(cosines >= threshold, 1))
    found = pairs_above(rows, threshold)
    assert found.threshold == threshold
    assert len(first) > 5
    assert {tuple(pair) for pair in found.positions.tolist()} == set(zip(first.tolist(), second.tolist(), strict=True))
    assert found.cosines == pytest.approx(cosines[found.positions[:, 0], found.positions[:, 1]], abs=1e-5)
    assert (np.diff(found.cosines) <= 0).all()


def test_pairs_above__too_many_raise_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE_ROWS", 50)
    rows = clustered(300, 40)
    whole = pairs_above(rows, 0.3)
    some = pairs_above(rows, 0.3, most=100)
    assert some.threshold > 0.3
    assert 50 < len(some.cosines) <= 100
    expected = whole.positions[whole.cosines >= np.float32(some.threshold)]
    assert some.positions.tolist() == expected.tolist()


def test_pairs_above__all_rows_equal_and_none() -> None:
    equal = pairs_above(np.ones((30, 8), np.float32), 0.98)
    assert len(equal.cosines) == 30 * 29 // 2
    crowded = pairs_above(np.ones((30, 8), np.float32), 0.98, most=10)
    assert len(crowded.cosines) == 0
    assert crowded.threshold >= 1
    assert len(pairs_above(np.zeros((5, 8), np.float32), 0.98).cosines) == 0
    assert len(pairs_above(np.ones((1, 8), np.float32), 0.98).cosines) == 0


@pytest.mark.parametrize("seed", range(6))
def test_complete_link_groups__are_those_of_scipy(seed: int) -> None:
    rows = clustered(150, 6, seed=seed)[12:]
    threshold = 0.9
    pairs = pairs_above(rows, threshold)
    distances = 1 - all_cosines(rows)
    np.fill_diagonal(distances, 0)
    clusters = fcluster(linkage(squareform(distances, checks=False), "complete"), 1 - threshold, "distance")
    expected = sorted(
        members for number in np.unique(clusters) if len(members := np.flatnonzero(clusters == number).tolist()) > 1
    )
    assert len(expected) > 5
    assert complete_link_groups(pairs.positions) == expected


def test_complete_link_groups__a_chain_is_no_group() -> None:
    assert complete_link_groups(np.array([[0, 1], [1, 2], [2, 3]])) == [[0, 1], [2, 3]]
    assert complete_link_groups(np.array([[0, 1], [1, 2], [0, 2]])) == [[0, 1, 2]]
    assert complete_link_groups(np.zeros((0, 2), np.int64)) == []

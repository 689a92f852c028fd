"""Planted wrong labels are found, right ones are left alone, and duplicates do not vouch for each other."""

from __future__ import annotations

import numpy as np

from contrastive_cli.embeddings.probes.out_of_fold_votes import Votes, out_of_fold_votes
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors


def blobs(counts: list[int], *, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around one axis a class."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = 3 * np.eye(len(counts), 16)[labels] + spread * random.normal(size=(len(labels), 16))
    return rows.astype(np.float32), labels


def vote(rows: np.ndarray, labels: np.ndarray, folds: np.ndarray | None = None) -> Votes:
    found = nearest_neighbors(rows, k=32)
    folds = np.arange(len(rows)) if folds is None else folds
    return out_of_fold_votes(
        found.indices, 1 - found.distances.astype(np.float64), labels, folds, classes=int(labels.max()) + 1
    )


def test_out_of_fold_votes__planted_labels_are_found_and_no_others() -> None:
    rows, labels = blobs([200, 150, 100], spread=0.5)
    wrong = np.random.default_rng(1).choice(450, 20, replace=False)
    given = labels.copy()
    given[wrong] = (given[wrong] + 1) % 3
    found = vote(rows, given)
    assert set(found.doubtful.tolist()) == set(wrong.tolist())
    assert (found.winners[wrong] == labels[wrong]).all()
    assert found.judged


def test_out_of_fold_votes__clean_labels_are_not_doubted() -> None:
    rows, labels = blobs([100, 100, 100], spread=0.6)
    assert len(vote(rows, labels).doubtful) == 0


def test_out_of_fold_votes__a_rare_class_among_a_large_one_is_not_accused() -> None:
    rows, labels = blobs([300, 100], spread=0.5)
    rare = np.random.default_rng(2).choice(300, 15, replace=False)  # of a kind that the vectors do not show
    labels[rare] = 2
    found = vote(rows, labels)
    assert not set(found.doubtful.tolist()) & set(rare.tolist())


def test_out_of_fold_votes__vectors_that_say_nothing_accuse_nobody() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 4, 400)
    found = vote(rows, labels)
    assert len(found.doubtful) == 0
    assert not found.judged
    assert found.accuracy < 0.4


def test_out_of_fold_votes__duplicates_do_not_vouch_for_each_other() -> None:
    rows, labels = blobs([100, 100], spread=0.5)
    rows[1:8] = rows[0]  # eight equal rows, all labeled wrongly
    given = labels.copy()
    given[:8] = 1
    folds = np.arange(200)
    assert 0 not in vote(rows, given, folds).doubtful
    folds[:8] = 0
    assert set(range(8)) <= set(vote(rows, given, folds).doubtful.tolist())


def test_out_of_fold_votes__shares_are_weights_by_hand() -> None:
    indices = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    cosines = np.array([[0.9, 0.8, 0.7]] * 4)
    found = out_of_fold_votes(indices, cosines, np.array([0, 0, 1, -1]), np.arange(4), classes=2)
    one, other = np.exp(-0.1 / 0.07), np.exp(-0.2 / 0.07)
    assert np.allclose(found.shares[0], [one / (one + other), other / (one + other)])
    assert np.allclose(found.shares[2], [1, 0])
    assert found.winners.tolist() == [0, 0, 0, 0]
    assert found.accuracy == 2 / 3

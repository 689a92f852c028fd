"""Cosine similarity, percentiles and random pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import percentileofscore

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.similarity import (
    cosine_matrix,
    cosine_similarity,
    percentile_of,
    random_pair_similarities,
)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 0], [0, 2], 0.0),
        ([1, 1], [3, 3], 1.0),
        ([1, 2], [-2, -4], -1.0),
        ([1, 0], [1, 1], 0.5**0.5),
        ([0, 0], [1, 1], 0.0),
        ([1e200, 1e200], [1e-200, 0], 0.5**0.5),
    ],
)
def test_cosine_similarity__closed_form(a: list[float], b: list[float], expected: float) -> None:
    assert cosine_similarity(a, b) == pytest.approx(expected, abs=1e-15)


def test_cosine_similarity__shapes_differ() -> None:
    with pytest.raises(DataError, match=r"\(2,\) and \(3,\)"):
        cosine_similarity([1, 2], [1, 2, 3])


def test_cosine_similarity__not_finite() -> None:
    with pytest.raises(DataError, match="not finite"):
        cosine_similarity([1, np.nan], [1, 2])


def test_cosine_matrix__agrees_with_pairs() -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    vectors[2] = 0
    matrix = cosine_matrix(vectors)
    for row in range(6):
        for column in range(6):
            assert matrix[row, column] == pytest.approx(cosine_similarity(vectors[row], vectors[column]), abs=1e-14)
    assert matrix.max() <= 1


@pytest.mark.parametrize("value", [-1.0, 0.1, 0.2, 0.25, 0.9, 2.0])
def test_percentile_of__matches_scipy(value: float) -> None:
    sample = np.array([0.1, 0.2, 0.2, 0.2, 0.7, 0.9])
    assert percentile_of(value, sample) == pytest.approx(percentileofscore(sample, value, kind="mean"))


def test_percentile_of__empty_sample() -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile_of(0.5, [])


def test_random_pair_similarities__splits_by_label() -> None:
    labels = np.array([0, 0, 1, 1, -1])
    vectors = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [-1, -1]])
    pairs = random_pair_similarities(vectors, num_pairs=4000, seed=1, labels=labels)
    assert pairs.same_class is not None
    assert pairs.different_class is not None
    assert set(pairs.same_class.tolist()) == {1.0}
    assert set(pairs.different_class.tolist()) == {0.0}
    # 20 ordered pairs of different rows: 4 of one class, 8 of two, 8 with the unlabeled row.
    assert len(pairs.same_class) / 4000 == pytest.approx(0.2, abs=0.03)
    assert len(pairs.different_class) / 4000 == pytest.approx(0.4, abs=0.03)
    assert len(pairs.all_pairs) == 4000
    assert (np.diff(pairs.all_pairs) >= 0).all()


def test_random_pair_similarities__never_a_row_with_itself() -> None:
    pairs = random_pair_similarities(np.eye(3), num_pairs=1000, seed=0)
    assert pairs.all_pairs.max() == 0
    assert pairs.same_class is None


def test_random_pair_similarities__seeded() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 8))
    first, again, other = (random_pair_similarities(vectors, num_pairs=100, seed=seed).all_pairs for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_pair_similarities__one_row() -> None:
    with pytest.raises(DataError, match="at least 2"):
        random_pair_similarities(np.ones((1, 3)), num_pairs=5, seed=0)

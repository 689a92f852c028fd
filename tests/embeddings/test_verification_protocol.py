"""The protocol of verification: a threshold never sees the pairs that it is judged on, and folds are alike."""

from __future__ import annotations

import numpy as np
import pytest

from contrastive_cli.embeddings.verification import fold_accuracies, verify

DRAWS = 300


def test_fold_accuracies__without_signal_no_better_than_chance() -> None:
    same = np.arange(20) % 2 == 0
    generator = np.random.default_rng(0)
    means = [fold_accuracies(generator.normal(size=20), same, folds=10, seed=seed).mean() for seed in range(DRAWS)]
    assert np.mean(means) < 0.5 + 3 * np.std(means) / DRAWS**0.5  # a threshold that has seen the fold reaches 0.55


def test_fold_accuracies__every_fold_has_its_share_of_both_kinds() -> None:
    same = np.arange(100) < 40
    # Equal scores: the best threshold calls all pairs different, which is right of 60 in 100.
    accuracies = fold_accuracies(np.zeros(100), same, folds=10, seed=0)
    np.testing.assert_allclose(accuracies, 0.6)


def test_fold_accuracies__folds_are_drawn_not_dealt() -> None:
    generator = np.random.default_rng(0)
    same = generator.random(80) < 0.5
    scores = generator.normal(size=80) + same
    drawn = {tuple(fold_accuracies(scores, same, folds=10, seed=seed)) for seed in range(5)}
    assert len(drawn) == 5
    assert fold_accuracies(scores, same, folds=10, seed=3).tolist() in [list(one) for one in drawn]


def test_fold_accuracies__a_fold_of_other_scores_is_judged_by_the_thresholds_of_the_rest() -> None:
    """One pair of each kind scores the wrong way round by far; the threshold of the others calls both wrong."""
    same = np.arange(20) % 2 == 0
    scores = np.where(same, 0.9, 0.1)
    scores[0], scores[1] = -5.0, 5.0
    accuracies = fold_accuracies(scores, same, folds=10, seed=0)
    assert accuracies.sum() == pytest.approx(9.0)  # 18 of 20, in folds of two


@pytest.mark.parametrize(("same", "folds"), [(30, 10), (10, 10), (7, 7), (2, 2)])
def test_verify__as_many_folds_as_the_rarer_kind_allows(same: int, folds: int) -> None:
    truth = np.arange(60) < same
    found, _ = verify(np.random.default_rng(0).normal(size=60), truth)
    assert (found.folds, found.pairs, found.same) == (folds, 60, same)

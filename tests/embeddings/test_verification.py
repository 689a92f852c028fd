"""Verification against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.verification import (
    best_threshold,
    equal_error_rate,
    fold_accuracies,
    operating_point,
    roc_curve,
    verify,
)


def scored_pairs(count: int = 400, *, step: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that tell the kinds apart somewhat, rounded to `step` so that many are equal."""
    generator = np.random.default_rng(seed)
    same = generator.random(count) < 0.4
    scores = generator.normal(size=count) + 1.2 * same
    return np.round(scores / step) * step if step else scores, same


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_roc_curve__equals_scikit_learn(step: float) -> None:
    scores, same = scored_pairs(step=step)
    curve = roc_curve(scores, same)
    expected = sklearn_roc_curve(same, scores, drop_intermediate=False)
    for found, wanted in zip(
        (curve.false_positive_rate, curve.true_positive_rate, curve.thresholds), expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted)
    assert verify(scores, same)[0].auc == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


@pytest.mark.parametrize("step", [0.0, 0.3])
def test_equal_error_rate__both_errors_are_equal_there(step: float) -> None:
    scores, same = scored_pairs(step=step)
    curve = roc_curve(scores, same)
    rate = equal_error_rate(curve)
    missed = 1 - np.interp(rate, curve.false_positive_rate, curve.true_positive_rate)
    assert rate == pytest.approx(missed, abs=1 / same.sum())
    assert equal_error_rate(roc_curve(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False]))) == 0
    assert equal_error_rate(roc_curve(np.array([0.9, 0.8, 0.2, 0.1]), np.array([False, False, True, True]))) == 1
    assert equal_error_rate(roc_curve(np.zeros(4), np.array([False, False, True, True]))) == 0.5


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_best_threshold__no_other_is_better(step: float) -> None:
    scores, same = scored_pairs(60, step=step)
    found = np.mean((scores >= best_threshold(scores, same)) == same)
    candidates = [*scores, scores.max() + 1]
    assert found == max(np.mean((scores >= candidate) == same) for candidate in candidates)
    assert best_threshold(np.array([0.2, 0.6]), np.array([False, True])) == pytest.approx(0.4)
    everything_different = best_threshold(np.array([0.2, 0.6, 0.6]), np.array([True, False, False]))
    assert everything_different > 0.6


def test_fold_accuracies__thresholds_come_from_the_other_folds() -> None:
    scores, same = scored_pairs()
    accuracies = fold_accuracies(scores, same, folds=10, seed=0)
    verification, _ = verify(scores, same)
    assert verification.accuracy == pytest.approx(accuracies.mean())
    assert verification.accuracy_error == pytest.approx(accuracies.std(ddof=1) / math.sqrt(10))
    generous = np.mean((scores >= verification.threshold) == same)  # chosen on the very pairs it is judged on
    assert verification.accuracy <= generous
    assert generous - verification.accuracy < 0.05
    noise = np.random.default_rng(1).normal(size=400)
    assert abs(verify(noise, same)[0].accuracy - 0.6) < 0.05  # the larger kind's share, no more
    separate, _ = verify(np.where(same, 0.9, 0.1), same)
    assert (separate.auc, separate.eer, separate.accuracy, separate.accuracy_error) == (1, 0, 1, 0)


def test_verify__refuses() -> None:
    with pytest.raises(DataError, match="1 same and 3 different pairs: at least 2 of each"):
        verify([0.1, 0.2, 0.3, 0.4], [True, False, False, False])
    with pytest.raises(DataError, match="finite"):
        verify([0.1, np.nan, 0.3, 0.4], [True, False, True, False])
    assert verify([0.1, 0.2, 0.3, 0.4], [True, False, True, False])[0].folds == 2


def brute_force_point(scores: np.ndarray, same: np.ndarray, rate: float) -> float:
    """The share of same pairs accepted by the best of all thresholds that keep the rate."""
    tried = np.concatenate([scores, [scores.max() + 1]])
    kept = [limit for limit in tried if (scores[~same] >= limit).mean() <= rate + 1e-12]
    return float((scores[same] >= min(kept)).mean())


@pytest.mark.parametrize("rate", [0.005, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_operating_point__accepts_as_many_as_the_rate_allows(rate: float, decimals: int) -> None:
    random = np.random.default_rng(0)
    same = random.random(900) < 0.4
    scores = np.round(random.normal(size=900) * 0.3 + 0.4 * same, decimals)  # with few decimals there are many ties
    found = operating_point(scores, same, false_accept_rate=rate)
    assert found.false_accept_rate <= rate
    assert found.true_accept_rate == pytest.approx(brute_force_point(scores, same, rate))
    assert found.false_accept_rate == pytest.approx((scores[~same] >= found.threshold).mean())


def test_operating_point__lies_midway() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.9])
    same = np.array([False, False, False, False, True, True])
    assert operating_point(scores, same, false_accept_rate=0.25).threshold == pytest.approx(0.35)
    with pytest.raises(DataError, match="4 different pairs are too few to tell") as error:
        operating_point(scores, same, false_accept_rate=0.01)
    assert error.value.hint == "at least 100 are needed"

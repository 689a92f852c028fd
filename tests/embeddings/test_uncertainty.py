from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.uncertainty import error_auroc, neighbor_is_same_class, rejection_curve, reliability
from contrastive_cli.viz.uncertainty import Degradation


def answers(count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are wrong with a probability that rises with a coarse uncertainty (many ties)."""
    rng = np.random.default_rng(0)
    uncertainty = rng.integers(0, 12, count).astype(np.float32) / 12
    return rng.random(count) > uncertainty * 0.7, uncertainty


def test_error_auroc__equals_sklearn_and_knows_only_the_order() -> None:
    correct, uncertainty = answers()
    expected = roc_auc_score(~correct, uncertainty)
    assert error_auroc(correct, uncertainty) == pytest.approx(expected)
    assert error_auroc(correct, np.exp(5 * uncertainty)) == pytest.approx(expected)
    assert error_auroc(correct, -uncertainty) == pytest.approx(1 - expected)
    assert math.isnan(error_auroc(np.ones(5, bool), np.arange(5.0)))


def test_neighbor_is_same_class__equals_sklearn() -> None:
    rng = np.random.default_rng(1)
    vectors, labels = rng.normal(size=(80, 6)).astype(np.float32), rng.integers(0, 3, 80)
    nearest = NearestNeighbors(n_neighbors=2, metric="cosine").fit(vectors).kneighbors(return_distance=False)[:, 0]
    np.testing.assert_array_equal(neighbor_is_same_class(vectors, labels), labels[nearest] == labels)
    with pytest.raises(DataError, match="known label"):
        neighbor_is_same_class(vectors, np.full(80, -1))


def test_reliability__bins_partition_the_images() -> None:
    correct, uncertainty = answers()
    bins = reliability(correct, uncertainty, bins=7)
    assert bins.count.sum() == 500
    assert bins.count.max() - bins.count.min() <= 1
    assert (np.diff(bins.uncertainty) >= 0).all()
    assert (bins.correct * bins.count).sum() == pytest.approx(correct.sum())
    assert len(reliability(correct[:3], uncertainty[:3]).count) == 3


def test_rejection_curve__by_hand_and_between_its_bounds() -> None:
    curve = rejection_curve(np.array([True, False, True, False]), np.array([0.1, 0.9, 0.2, 0.5]))
    np.testing.assert_allclose(curve.accuracy, [1, 1, 2 / 3, 1 / 2])
    assert curve.area == curve.best_area == pytest.approx(np.mean([1, 1, 2 / 3, 1 / 2]))
    correct, uncertainty = answers()
    found = rejection_curve(correct, uncertainty)
    assert found.accuracy[-1] == pytest.approx(correct.mean())
    assert correct.mean() < found.area < found.best_area
    # No order, no gain: all uncertainties equal.
    np.testing.assert_allclose(rejection_curve(correct, np.zeros(500)).accuracy, correct.mean())


def test_degradation__spearman_equals_scipy() -> None:
    rng = np.random.default_rng(2)
    levels = np.arange(4)
    uncertainty = (2.0 * levels + rng.normal(size=(30, 4))).astype(np.float32)
    found = Degradation(kind="blur", levels=(0.0, 1.0, 2.0, 3.0), uncertainty=uncertainty)
    pooled = spearmanr(np.tile(levels, 30), uncertainty.ravel()).statistic
    assert found.spearman == pytest.approx(pooled)
    assert found.spearman_per_image == pytest.approx(np.mean([spearmanr(levels, row).statistic for row in uncertainty]))
    assert found.monotone
    assert not Degradation(kind="blur", levels=(0.0, 1.0), uncertainty=uncertainty[:, [1, 0]]).monotone


def test_uncertainty__refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="do not fit"):
        error_auroc(np.ones(3, bool), np.zeros(2))
    with pytest.raises(DataError, match="not finite"):
        rejection_curve(np.ones(2, bool), np.array([0.0, np.nan]))

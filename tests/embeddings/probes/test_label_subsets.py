"""Subsets, folds and intervals against closed forms and scipy."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest, ttest_1samp

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.probes.label_subsets import (
    confidence_interval,
    label_subset,
    mean_interval,
    shuffled_classes,
    stratified_folds,
)


@pytest.mark.parametrize("seed", [0, 7])
def test_label_subset__nested_and_stratified(seed: int) -> None:
    labels = torch.tensor([0] * 500 + [1] * 100 + [2] * 3 + [-1] * 50)[torch.randperm(653)]
    previous: set[int] = set()
    for fraction in (0.01, 0.1, 0.5, 1.0):
        chosen = label_subset(labels, fraction=fraction, seed=seed)
        counts = labels[chosen].bincount().tolist()
        assert counts == [max(1, int(fraction * size + 0.5)) for size in (500, 100, 3)]
        assert previous <= set(chosen.tolist())
        previous = set(chosen.tolist())
        assert torch.equal(chosen, chosen.sort().values)
    assert len(previous) == 603


def test_label_subset__seed_decides() -> None:
    labels = torch.arange(200) % 2
    first, again, other = (label_subset(labels, fraction=0.1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_label_subset__wrong_arguments() -> None:
    with pytest.raises(ValueError, match="fraction"):
        label_subset(torch.zeros(3), fraction=0.0, seed=0)
    with pytest.raises(DataError, match="no sample"):
        label_subset(torch.tensor([-1, -1]), fraction=0.5, seed=0)


def test_stratified_folds__even() -> None:
    labels = torch.tensor([0] * 20 + [1] * 3 + [2] * 2 + [3] + [-1] * 4)
    folds = stratified_folds(labels, num_folds=5, seed=0)
    assert folds[:20].bincount().tolist() == [4] * 5
    assert folds[:25].bincount().tolist() == [5] * 5
    assert folds[25:].tolist() == [-1] * 5


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (7, 10), (9123, 10_000), (1, 1)])
def test_confidence_interval__matches_scipy(correct: int, total: int) -> None:
    expected = binomtest(correct, total).proportion_ci(method="wilson")
    assert confidence_interval(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 4)])
def test_confidence_interval__impossible_counts(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match="no interval"):
        confidence_interval(correct, total)


@pytest.mark.parametrize("values", [[0.8, 0.82, 0.79], [1.0, 3.0], [5.0, 5.0]])
def test_mean_interval__matches_scipy(values: list[float]) -> None:
    if len(set(values)) == 1:
        assert mean_interval(values) == (5.0, 5.0)
    else:
        expected = ttest_1samp(values, 0).confidence_interval(0.95)
        assert mean_interval(values) == pytest.approx((expected.low, expected.high), rel=1e-10)


def test_mean_interval__one_value() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0])


def test_shuffled_classes__each_class_in_an_order_of_its_own() -> None:
    """The same places in every class would tie classes whose images come in pairs, such as views of one object."""
    labels = torch.arange(4).repeat_interleave(50)
    orders = [tuple((members % 50).tolist()) for members in shuffled_classes(labels, seed=0)]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)
    alone = shuffled_classes(torch.where(labels == 2, 2, -1), seed=0)  # other classes do not count
    assert torch.equal(alone[0], shuffled_classes(labels, seed=0)[2])


def test_stratified_folds__of_small_classes_are_not_all_the_first() -> None:
    labels = torch.arange(40).repeat_interleave(2)
    assert stratified_folds(labels, num_folds=5, seed=0).bincount().tolist() == [16] * 5

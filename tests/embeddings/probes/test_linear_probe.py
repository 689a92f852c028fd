"""Linear probes against scikit-learn, and splits and intervals against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ttest_1samp
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.probes import linear_probe as probe_module
from contrastive_cli.embeddings.probes.label_subsets import stratified_folds
from contrastive_cli.embeddings.probes.lbfgs import Evaluation, minimize
from contrastive_cli.embeddings.probes.linear_probe import (
    confidence_interval,
    fit_linear,
    fit_probe,
    label_subset,
    mean_interval,
)


def blobs(num_samples: int, num_dimensions: int, num_classes: int, *, seed: int = 0, spread: float = 1.0) -> Any:
    """Overlapping Gaussian classes, features of unequal scale and offset."""
    generator = torch.Generator().manual_seed(seed)
    centers = spread * torch.randn(num_classes, num_dimensions, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(num_samples) % num_classes
    features = centers[labels] + torch.randn(num_samples, num_dimensions, generator=generator)
    return features * torch.logspace(-2, 2, num_dimensions) + 5, labels


def objective(weights: Tensor, bias: Tensor, features: Tensor, labels: Tensor, penalty: float) -> Tensor:
    standard = (features.double() - features.double().mean(0)) / features.double().std(0, correction=0)
    loss = torch.nn.functional.cross_entropy(standard @ weights.T + bias, labels)
    return loss + 0.5 * penalty * weights.square().sum()


@pytest.mark.parametrize("penalty", [1e-3, 1e-1, 10.0])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_fit_linear__matches_sklearn(penalty: float, num_classes: int) -> None:
    features, labels = blobs(400, 12, num_classes)
    heads = fit_linear(features, labels, penalties=[penalty], num_classes=num_classes, tolerance=1e-6)
    standard = ((features - heads.mean) / heads.scale).double().numpy()
    # Two classes are one logit w = w1 - w0 for sklearn, |w|^2 = 2 (|w0|^2 + |w1|^2), so its penalty is half of ours.
    strength = penalty if num_classes > 2 else penalty / 2
    model = LogisticRegression(C=1 / (len(labels) * strength), tol=1e-10, max_iter=10_000).fit(standard, labels)
    if num_classes > 2:
        weights, biases = heads.weights[0], heads.biases[0] - heads.biases[0].mean()
    else:
        weights, biases = heads.weights[0, 1:] - heads.weights[0, :1], heads.biases[0, 1:] - heads.biases[0, :1]
    distance = 1e-4 + 2e-6 / penalty  # strong convexity: |w - w*| <= |gradient| / penalty
    np.testing.assert_allclose(weights.numpy(), model.coef_, atol=distance, rtol=0)
    np.testing.assert_allclose(biases.numpy(), model.intercept_, atol=distance, rtol=0)


def test_fit_linear__gradient_vanishes() -> None:
    features, labels = blobs(300, 8, 3)
    heads = fit_linear(features, labels, penalties=[1e-3, 1e-2, 1.0], num_classes=3)
    for number, penalty in enumerate(heads.penalties):
        weights = heads.weights[number].double().requires_grad_()
        bias = heads.biases[number].double().requires_grad_()
        gradients = torch.autograd.grad(objective(weights, bias, features, labels, penalty), [weights, bias])
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        assert norm < 1.1e-4
        assert norm == pytest.approx(float(heads.gradient_norms[number]), abs=5e-6)


def test_fit_linear__sweep_equals_single_fits() -> None:
    features, labels = blobs(500, 20, 4)
    penalties = [1e-5, 1e-3, 1e-1, 10.0]
    sweep = fit_linear(features, labels, penalties=penalties, num_classes=4)
    for number, penalty in enumerate(penalties):
        single = fit_linear(features, labels, penalties=[penalty], num_classes=4)
        torch.testing.assert_close(sweep.weights[number], single.weights[0], atol=1e-4, rtol=1e-3)
        assert sweep.iterations[number] == single.iterations[0]
    assert len(sweep.iterations.unique()) > 1


def test_fit_linear__pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastive_cli.embeddings.probes import logistic_regression as linear_heads

    features, labels = blobs(700, 6, 3)
    whole = fit_linear(features, labels, penalties=[1e-2], num_classes=3)
    monkeypatch.setattr(linear_heads, "LOGITS_PER_BLOCK", 1)
    pieces = fit_linear(features, labels, penalties=[1e-2], num_classes=3)
    torch.testing.assert_close(whole.weights, pieces.weights, atol=1e-5, rtol=1e-4)


def test_fit_linear__penalties_that_do_not_fit_together_are_fitted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastive_cli.embeddings.probes import logistic_regression as linear_heads

    features, labels = blobs(300, 12, 3)
    penalties = [1e-4, 1e-2, 1.0]
    together = fit_linear(features, labels, penalties=penalties, num_classes=3)
    largest: list[int] = []
    minimize = linear_heads.minimize

    def counted(objective: Any, start: Tensor, **options: Any) -> Any:
        largest.append(start.numel())
        return minimize(objective, start, **options)

    monkeypatch.setattr(linear_heads, "minimize", counted)
    monkeypatch.setattr(linear_heads, "PARAMETERS_AT_ONCE", 2 * 3 * 13)
    apart = fit_linear(features, labels, penalties=penalties, num_classes=3)
    assert largest == [2 * 3 * 13, 3 * 13]
    torch.testing.assert_close(apart.weights, together.weights, atol=1e-5, rtol=1e-4)
    assert apart.iterations.shape == apart.gradient_norms.shape == (3,)


def test_fit_linear__scale_and_offset_do_not_matter() -> None:
    features, labels = blobs(300, 6, 3)
    plain = fit_linear(features, labels, penalties=[1e-2], num_classes=3)
    moved = fit_linear(features * 40 - 7, labels, penalties=[1e-2], num_classes=3)
    torch.testing.assert_close(plain.logits(features), moved.logits(features * 40 - 7), atol=1e-3, rtol=1e-3)


def test_fit_linear__absent_class_is_never_predicted() -> None:
    features, labels = blobs(200, 5, 3)
    heads = fit_linear(features, labels * 2, penalties=[1e-2], num_classes=6)
    dense = fit_linear(features, labels, penalties=[1e-2], num_classes=3)
    logits = heads.logits(features)[0]
    assert set(logits.argmax(1).tolist()) == {0, 2, 4}
    torch.testing.assert_close(logits[:, ::2], dense.logits(features)[0])


def test_fit_linear__constant_features_change_nothing() -> None:
    features, labels = blobs(200, 5, 3)
    padded = torch.cat([features, torch.full((200, 1), 0.1), torch.zeros(200, 1)], dim=1)
    heads = fit_linear(padded, labels, penalties=[1e-2], num_classes=3)
    assert heads.scale[-2:].tolist() == [1, 1]
    assert heads.weights[..., -2:].abs().max() < 1e-4
    expected = fit_linear(features, labels, penalties=[1e-2], num_classes=3).logits(features)
    torch.testing.assert_close(heads.logits(padded), expected, atol=1e-3, rtol=1e-3)


def test_fit_linear__fewer_samples_than_features() -> None:
    features, labels = blobs(10, 40, 5)
    heads = fit_linear(features, labels, penalties=[1e-4, 1.0], num_classes=5)
    assert (heads.logits(features).argmax(2) == labels).all()
    assert (heads.gradient_norms <= 1e-4).all()


@pytest.mark.parametrize("constant", [False, True])
def test_fit_linear__few_samples_are_fitted_in_their_own_span(constant: bool) -> None:
    features, labels = blobs(30, 200, 3)
    if constant:
        features = torch.ones_like(features)
    heads = fit_linear(features, labels, penalties=[1e-2], num_classes=3, tolerance=1e-6)
    weights = heads.weights[0].double().requires_grad_()
    bias = heads.biases[0].double().requires_grad_()
    standard = ((features - heads.mean) / heads.scale).double()
    loss = torch.nn.functional.cross_entropy(standard @ weights.T + bias, labels)
    slopes = torch.autograd.grad(loss + 0.5e-2 * weights.square().sum(), [weights, bias])
    assert max(float(slope.norm()) for slope in slopes) < 1e-4


def test_fit_linear__keeps_its_input() -> None:
    features, labels = blobs(50, 4, 2)
    features.requires_grad_()
    copy = features.detach().clone()
    heads = fit_linear(features, labels, penalties=[0.1], num_classes=2)
    assert torch.equal(features.detach(), copy)
    assert not heads.weights.requires_grad


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1, -1, -1], "2 of 4 samples have no label"), ([3, 3, 3, 3], "class 3"), ([0, 1], r"\(2,\)")],
)
def test_fit_linear__labels_that_cannot_be_fitted(labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_linear(torch.randn(4, 3), torch.tensor(labels), penalties=[1.0], num_classes=4)


def test_fit_linear__features_not_finite() -> None:
    features, labels = blobs(20, 3, 2)
    features[[4, 9], 1] = torch.nan
    with pytest.raises(DataError, match=r"rows \[4, 9\]"):
        fit_linear(features, labels, penalties=[1.0], num_classes=2)


@pytest.mark.parametrize(("penalties", "num_classes"), [([], 2), ([0.0], 2), ([1.0], 1)])
def test_fit_linear__wrong_arguments(penalties: list[float], num_classes: int) -> None:
    features, labels = blobs(20, 3, 2)
    with pytest.raises(ValueError, match=r"penalties|num_classes"):
        fit_linear(features, labels, penalties=penalties, num_classes=num_classes)


def test_minimize__quadratics_of_any_condition() -> None:
    generator = torch.Generator().manual_seed(0)
    diagonals = torch.stack([torch.logspace(0, power, 30, dtype=torch.float64) for power in (0, 2, 4)])
    targets = torch.randn(3, 30, generator=generator, dtype=torch.float64)

    def evaluate(points: Tensor, problems: Tensor) -> Evaluation:
        gradients = diagonals[problems] * (points - targets[problems])
        values = 0.5 * (gradients * (points - targets[problems])).sum(1)
        return Evaluation(values=values, gradients=gradients, curvatures=torch.ones_like(points))

    found = minimize(evaluate, torch.zeros_like(targets), max_iterations=1000, tolerance=1e-8)
    torch.testing.assert_close(found.points, targets, atol=1e-7, rtol=0)
    assert found.iterations[0] < found.iterations[1] < found.iterations[2]
    stopped = minimize(evaluate, torch.zeros_like(targets), max_iterations=2, tolerance=1e-8)
    assert stopped.iterations.tolist() == [1, 2, 2]


def test_fit_probe__chooses_a_good_penalty() -> None:
    features, labels = blobs(600, 100, 4, spread=0.25)
    test_features, test_labels = blobs(2000, 100, 4, seed=1, spread=0.25)
    probe = fit_probe(features, labels, seed=0)
    accuracies = [
        fit_linear(features, labels, penalties=[penalty], num_classes=4).logits(test_features)[0].argmax(1)
        for penalty in probe_module.DEFAULT_PENALTIES
    ]
    scores = [float((predicted == test_labels).double().mean()) for predicted in accuracies]
    assert probe.accuracy(test_features, test_labels) > max(scores) - 0.02 > min(scores)
    assert max(probe.held_out_accuracies)[1] == probe.penalty


def test_fit_probe__holds_out_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "ENOUGH_HELD_OUT", 30)
    features, labels = blobs(400, 5, 4)
    fold = stratified_folds(labels, num_folds=10, seed=3) == 0
    heads = fit_linear(features[~fold], labels[~fold], penalties=[0.01, 1.0], num_classes=4)
    expected = (heads.logits(features[fold]).argmax(2) == labels[fold]).double().mean(1)
    probe = fit_probe(features, labels, penalties=[0.01, 1.0], seed=3)
    assert [accuracy for accuracy, _ in probe.held_out_accuracies] == pytest.approx(expected.tolist())


def test_fit_probe__one_sample_a_class() -> None:
    features, labels = blobs(5, 8, 5, spread=5)
    probe = fit_probe(features, labels, seed=0)
    assert probe.held_out_accuracies == ()
    assert probe.penalty == pytest.approx(0.0774, abs=1e-4)
    assert probe.accuracy(features, labels) == 1.0


def test_fit_probe__seeded() -> None:
    features, labels = blobs(120, 10, 3)
    first, again = (fit_probe(features, labels, seed=5) for _ in range(2))
    assert first.penalty == again.penalty
    assert torch.equal(first.heads.weights, again.heads.weights)


def test_probe__accuracy_leaves_out_the_unlabeled() -> None:
    features, labels = blobs(90, 6, 3, spread=4)
    probe = fit_probe(features, labels, seed=0)
    assert torch.equal(probe.predict(features), labels)
    half = torch.where(torch.arange(90) < 45, labels, -1)
    assert probe.accuracy(features, half) == 1.0
    with pytest.raises(DataError, match="no sample"):
        probe.accuracy(features, torch.full((90,), -1))
    with pytest.raises(DataError, match="6 features"):
        probe.predict(features[:, :5])


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

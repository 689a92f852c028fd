"""Linear heads against scikit-learn."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from blobs import blobs
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.probes.lbfgs import minimize
from contrastive_cli.embeddings.probes.logistic_regression import _principal_axes, fit_linear


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


@pytest.mark.parametrize("shape", [(30, 200), (300, 80)])
@pytest.mark.parametrize("kind", ["full", "flat", "constant"])
def test_fit_linear__is_fitted_in_the_span_of_the_samples(shape: tuple[int, int], kind: str) -> None:
    """The gradient of the whole objective vanishes, also outside the span."""
    features, labels = blobs(*shape, 3)
    if kind == "flat":
        turned = torch.randn(5, shape[1], generator=torch.Generator().manual_seed(0))
        features = features[:, :5] @ turned
    elif kind == "constant":
        features = torch.ones_like(features)
    heads = fit_linear(features, labels, penalties=[1e-2], num_classes=3, tolerance=1e-6)
    weights = heads.weights[0].double().requires_grad_()
    bias = heads.biases[0].double().requires_grad_()
    standard = ((features - heads.mean) / heads.scale).double()
    loss = torch.nn.functional.cross_entropy(standard @ weights.T + bias, labels)
    slopes = torch.autograd.grad(loss + 0.5e-2 * weights.square().sum(), [weights, bias])
    assert max(float(slope.norm()) for slope in slopes) < 1e-4


@pytest.mark.parametrize(("rows", "axes"), [(30, 5), (300, 5), (800, 80)])
def test_principal_axes__empty_dimensions_are_left_out_where_that_is_cheap(rows: int, axes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(rows, 5, generator=generator) @ torch.randn(5, 80, generator=generator)
    variances, rotated, back = _principal_axes(flat)
    directions = functools.reduce(torch.matmul, back)
    assert directions.shape == (axes, 80)
    torch.testing.assert_close(directions @ directions.T, torch.eye(axes, dtype=torch.float64), atol=1e-9, rtol=0)
    along = flat.double() @ directions.T
    torch.testing.assert_close(along.square().mean(0), variances, atol=1e-4 * float(variances.max()), rtol=0)
    torch.testing.assert_close(rotated.double(), along, atol=1e-5 * float(along.abs().max()), rtol=0)


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

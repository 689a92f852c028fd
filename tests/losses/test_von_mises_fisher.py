from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import gammaln, ive
from scipy.stats import ks_2samp, kstest, vonmises_fisher
from torch import Tensor

from contrastive_cli.losses.von_mises_fisher import (
    cosine_gradient,
    log_normalizer,
    mean_resultant_length,
    sample,
    sample_cosine,
)

DIMENSIONS = (2, 3, 10, 65, 128, 512, 2048)


def grid(low: float = -4, high: float = 6, count: int = 60) -> Tensor:
    return torch.logspace(low, high, count, dtype=torch.float64)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_log_normalizer__matches_scipy(dimension: int) -> None:
    kappa = grid()
    order = dimension / 2 - 1
    with np.errstate(divide="ignore"):
        scaled, above = ive(order, kappa.numpy()), ive(order + 1, kappa.numpy())
    known = (scaled > 1e-280) & (above > 1e-280)  # where scipy does not underflow
    assert known.sum() > 15
    k = kappa.numpy()[known]
    expected = order * np.log(k) - dimension / 2 * math.log(2 * math.pi) - np.log(scaled[known]) - k
    found = log_normalizer(kappa, dimension=dimension)
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(found.numpy()[known], expected, rtol=1e-12, atol=2e-9)
    length = mean_resultant_length(kappa, dimension=dimension)
    np.testing.assert_allclose(length.numpy()[known], above[known] / scaled[known], rtol=1e-10)


@pytest.mark.parametrize("kappa", [0.5, 7.0, 150.0])
@pytest.mark.parametrize("dimension", [2, 3, 10, 65])
def test_log_normalizer__makes_scipys_density_and_entropy(dimension: int, kappa: float) -> None:
    random = np.random.default_rng(dimension)
    points = random.normal(size=(50, dimension))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    center = points[0]
    theirs = vonmises_fisher(center, kappa)
    wide = torch.tensor(kappa, dtype=torch.float64)
    log_c = log_normalizer(wide, dimension=dimension).item()
    np.testing.assert_allclose(log_c + kappa * points @ center, theirs.logpdf(points), rtol=1e-9, atol=1e-8)
    length = mean_resultant_length(wide, dimension=dimension).item()
    assert -log_c - kappa * length == pytest.approx(theirs.entropy(), rel=1e-8, abs=1e-7)


@pytest.mark.parametrize(("dimension", "kappa"), [(3, 4.0), (16, 30.0), (128, 200.0)])
def test_sample__has_the_distribution_of_scipys(dimension: int, kappa: float) -> None:
    center = np.eye(dimension)[1]
    generator = torch.Generator().manual_seed(0)
    mu = torch.from_numpy(center).float()[None]
    ours = sample(mu, torch.tensor([kappa]), samples=2000, generator=generator).reshape(-1, dimension)
    theirs = vonmises_fisher(center, kappa, seed=np.random.default_rng(0)).rvs(2000)
    for axis in (1, 0):  # along the center, and across it
        assert ks_2samp(ours[:, axis].numpy(), theirs[:, axis]).pvalue > 1e-3


def test_log_normalizer__closed_forms() -> None:
    kappa = grid(-3, 2)
    on_ordinary_sphere = kappa.log() - math.log(4 * math.pi) - kappa.sinh().log()
    torch.testing.assert_close(log_normalizer(kappa, dimension=3), on_ordinary_sphere, rtol=1e-10, atol=1e-9)
    for dimension in DIMENSIONS:
        area = math.log(2) + dimension / 2 * math.log(math.pi) - gammaln(dimension / 2)
        at_zero = log_normalizer(torch.zeros((), dtype=torch.float64), dimension=dimension)
        assert at_zero.item() == pytest.approx(-area, abs=1e-8)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_mean_resultant_length__rises_within_the_bounds_of_amos(dimension: int) -> None:
    kappa = grid()
    length = mean_resultant_length(kappa, dimension=dimension)
    assert (length.diff() > 0).all()
    # Amos 1974: with v = D/2 - 1, k / (v + 1/2 + sqrt(k^2 + (v + 3/2)^2)) <= A <= k / (v + sqrt(k^2 + (v + 2)^2)).
    order = dimension / 2 - 1
    low = kappa / (order + 0.5 + (kappa.square() + (order + 1.5) ** 2).sqrt())
    high = kappa / (order + (kappa.square() + (order + 2) ** 2).sqrt())
    assert (length >= low * (1 - 1e-9)).all()
    assert (length <= high * (1 + 1e-9)).all()


@pytest.mark.parametrize("dimension", [2, 7, 128, 2048])
def test_gradients__match_finite_differences(dimension: int) -> None:
    kappa = torch.tensor([0.3, 5.0, 80.0, 2000.0], dtype=torch.float64, requires_grad=True)
    for function in (log_normalizer, mean_resultant_length):
        (slope,) = torch.autograd.grad(function(kappa, dimension=dimension).sum(), kappa)
        step = 1e-4 * kappa.detach()
        above, below = (function(kappa.detach() + sign * step, dimension=dimension) for sign in (1, -1))
        torch.testing.assert_close(slope, (above - below) / (2 * step), rtol=1e-4, atol=1e-7)
    (slope,) = torch.autograd.grad(log_normalizer(kappa, dimension=dimension).sum(), kappa)
    torch.testing.assert_close(slope, -mean_resultant_length(kappa.detach(), dimension=dimension))


@pytest.mark.parametrize("dimension", [2, 3, 8, 128])
@pytest.mark.parametrize("kappa", [1e-9, 0.7, 20.0, 3000.0])
def test_sample_cosine__has_the_distribution(dimension: int, kappa: float) -> None:
    drawn = sample_cosine(
        torch.full((4000,), kappa), dimension=dimension, generator=torch.Generator().manual_seed(dimension)
    )
    length = mean_resultant_length(torch.tensor(kappa, dtype=torch.float64), dimension=dimension).item()
    assert abs(drawn.mean().item() - length) < 4 * drawn.std().item() / math.sqrt(len(drawn))

    def density(angle: np.ndarray) -> Any:
        return np.exp(kappa * (np.cos(angle) - 1)) * np.sin(angle) ** (dimension - 2)

    angles = np.linspace(0, math.pi, 200_001)
    cumulative = np.concatenate([[0], np.cumsum(density(angles[:-1] + math.pi / 400_000))])
    result = kstest(drawn.clamp(-1, 1).acos().numpy(), lambda x: np.interp(x, angles, cumulative / cumulative[-1]))
    assert result.pvalue > 1e-3


@pytest.mark.parametrize(("dimension", "kappa"), [(2, 1.5), (3, 10.0), (16, 4.0), (128, 300.0), (128, 1e-3)])
def test_cosine_gradient__keeps_the_quantile(dimension: int, kappa: float) -> None:
    def quantile(k: float, angle: float) -> float:
        def density(x: float) -> float:
            return math.exp(k * (math.cos(x) - 1)) * math.sin(x) ** (dimension - 2)

        width = 1 / math.sqrt(k + dimension)
        points = [x for x in (math.acos(float(length)) + width * i for i in range(-4, 5)) if 0 < x < math.pi]
        left = quad(density, 0, angle, points=[x for x in points if x < angle] or None, limit=200)[0]
        return left / (  # type: ignore[no-any-return]
            left + quad(density, angle, math.pi, points=[x for x in points if x > angle] or None, limit=200)[0]
        )

    k = torch.tensor([kappa], dtype=torch.float64)
    length = mean_resultant_length(k, dimension=dimension)
    for offset in (-1.5, 0.0, 1.0):
        spread = math.sqrt(1 / dimension if kappa < 1 else (1 - float(length) ** 2) / dimension)
        cosine = min(0.99, max(-0.99, float(length) + offset * spread))
        angle = math.acos(cosine)
        # Of F(w; k): -dF/dk / f, both by differences.
        step, small = 1e-3 * max(kappa, 1e-2), 1e-5
        by_kappa = (quantile(kappa + step, angle) - quantile(kappa - step, angle)) / (2 * step)
        by_angle = (quantile(kappa, angle + small) - quantile(kappa, angle - small)) / (2 * small)
        expected = math.sin(angle) * by_kappa / by_angle
        found = cosine_gradient(torch.tensor([cosine], dtype=torch.float64), k, dimension=dimension)
        assert found.item() == pytest.approx(expected, rel=2e-3)


def test_sample__gradient_of_an_expectation_is_the_derivative_of_the_mean_length() -> None:
    # d/dkappa E[mu . z] = A'(kappa), which pathwise gradients estimate without bias, rejections included.
    kappa = torch.full((20_000,), 12.0, requires_grad=True)
    cosine = sample_cosine(kappa, dimension=8, generator=torch.Generator().manual_seed(0))
    cosine.sum().backward()
    at = torch.tensor(12.0, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(mean_resultant_length(at, dimension=8), at)
    assert kappa.grad is not None
    error = kappa.grad.std().item() / math.sqrt(len(kappa))
    assert abs(kappa.grad.mean().item() - expected.item()) < 4 * error


def test_sample__limits_shape_and_determinism() -> None:
    mu = torch.nn.functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    sure = sample(mu, torch.full((3,), 1e6), samples=5)
    assert sure.shape == (5, 3, 16)
    assert (sure * mu).sum(dim=-1).min() > 0.9999
    free = sample(mu, torch.zeros(3), samples=4000, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(free.norm(dim=-1), torch.ones(4000, 3))
    assert free.mean(dim=0).norm(dim=-1).max() < 4 / math.sqrt(4000)
    kappa = torch.tensor([1.0, 10.0, 100.0])
    first, second = (sample(mu, kappa, samples=2, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_sample__refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="dimension of at least 2"):
        log_normalizer(torch.ones(1), dimension=1)
    with pytest.raises(ValueError, match=r"shape \[3\]"):
        sample(torch.eye(3), torch.ones(2), samples=1)

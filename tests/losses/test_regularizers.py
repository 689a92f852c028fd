"""Regularizers beside slow definitions, lightly where its formula is the paper's, and values that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightly.loss import BarlowTwinsLoss, FroSSLLoss, VICRegLoss
from lightly.loss.lejepa_loss import SIGReg
from lightly.loss.visreg_loss import visreg_shape_loss
from method_values import known_views
from scipy.integrate import trapezoid
from scipy.stats import norm
from torch import Tensor

from contrastive_cli.losses.regularizers import (
    coding_rate,
    covariance_square,
    cross_correlation,
    directions,
    log_frobenius,
    off_diagonal_square,
    sigreg,
    variance_hinge,
    visreg_center,
    visreg_scale,
    visreg_shape,
)

# One dimension: all random directions are 1 or -1, so the values need no seed.
LINE = torch.tensor([-1, -0.5, 0, 0.2, 0.7, 1.5], dtype=torch.float64)[None, :, None]  # [1, 6, 1]


def random_views(num_views: int, num_images: int, width: int) -> Tensor:
    return torch.randn(num_views, num_images, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def unit(z: Tensor) -> Tensor:
    return torch.nn.functional.normalize(z, dim=-1)


def test_sigreg__known_values_and_the_integral() -> None:
    assert sigreg(LINE, slices=4).item() == pytest.approx(0.130823, abs=1e-6)
    assert sigreg(torch.zeros(1, 6, 1, dtype=torch.float64), slices=4).item() == pytest.approx(2.412285, abs=1e-6)
    t = np.linspace(-3, 3, 33)  # the trapezoids of both halves
    mean = np.exp(1j * t * LINE[0].numpy()).mean(axis=0)
    integrand = np.abs(mean - np.exp(-t * t / 2)) ** 2 * np.exp(-t * t / 2)
    assert sigreg(LINE, slices=1).item() == pytest.approx(6 * trapezoid(integrand, t), rel=1e-6)


def test_sigreg__equals_lightly_along_a_line_and_about_elsewhere() -> None:
    theirs = SIGReg(num_vectors=4)
    torch.testing.assert_close(sigreg(LINE.float(), slices=4), theirs(LINE.float()), rtol=1e-5, atol=1e-6)
    z = random_views(2, 40, 5).float()
    wide = SIGReg(num_vectors=20_000)(z)
    found = sigreg(z, slices=20_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, wide, rtol=0.05, atol=0)


def test_sigreg__is_least_for_standard_normal_projections() -> None:
    z = random_views(1, 2000, 4)
    standard, *others = (
        sigreg(x, slices=64, generator=torch.Generator().manual_seed(1)) for x in (z, 3 * z, z + 1, 0 * z)
    )
    assert standard < 3  # about 1 in the mean over samples
    assert all(other > 10 * standard for other in others)


def test_visreg__known_values_and_lightly() -> None:
    assert visreg_shape(LINE, slices=4).item() == pytest.approx(0.0973579, abs=1e-7)
    assert visreg_scale(LINE).item() == pytest.approx(0.0377491, abs=1e-7)
    assert visreg_center(LINE).item() == pytest.approx(0.0225, abs=1e-12)
    theirs = visreg_shape_loss(LINE[0].float(), num_slices=3)
    torch.testing.assert_close(visreg_shape(LINE.float(), slices=3), theirs, rtol=1e-5, atol=1e-6)
    gradients = []
    for loss_of in (lambda z: visreg_shape(z, slices=3), lambda z: visreg_shape_loss(z[0], num_slices=3)):
        z = (3 * LINE).float().requires_grad_()
        loss_of(z).backward()
        gradients.append(z.grad)
    torch.testing.assert_close(gradients[0], gradients[1])  # none of it by way of the deviation
    quantiles = torch.from_numpy(norm.ppf(np.arange(1, 101) / 101))[None, :, None]
    assert visreg_shape(quantiles, slices=2) < visreg_shape(quantiles**3, slices=2) / 100


def test_vicreg__known_value_and_lightly() -> None:
    first, second, _ = known_views()
    pair = known_views()[:2]
    value = 25 * (first - second).square().mean() + 25 * variance_hinge(pair) + covariance_square(pair)
    assert value.item() == pytest.approx(8.759757, abs=1e-6)
    assert value.item() == pytest.approx(VICRegLoss()(first, second).item(), rel=1e-6)
    slow = [np.cov(view.numpy().T) for view in pair]
    assert covariance_square(pair).item() == pytest.approx(
        sum((c**2).sum() - (np.diag(c) ** 2).sum() for c in slow) / 3, rel=1e-9
    )


def test_cross_correlation__known_value_numpy_and_lightly() -> None:
    first, second, _ = known_views()
    correlation = cross_correlation(first, second)
    diagonal = correlation.diagonal()
    value = (1 - diagonal).square().sum() + 5e-3 * off_diagonal_square(correlation)
    assert value.item() == pytest.approx(0.0292850, abs=1e-7)
    assert value.item() == pytest.approx(BarlowTwinsLoss()(first, second).item(), rel=1e-6)
    np.testing.assert_allclose(correlation, np.corrcoef(first.T, second.T)[:3, 3:], atol=1e-4)


def test_log_frobenius__lightly_and_its_bounds() -> None:
    for z in (random_views(3, 12, 4), random_views(2, 4, 12)):
        columns = torch.nn.functional.normalize(z, dim=1)
        theirs = FroSSLLoss(invariance_weight=0.0)(list(z))
        torch.testing.assert_close(log_frobenius(columns), theirs)
    spread = torch.eye(6, 4, dtype=torch.float64)[None]  # all eigenvalues equal
    assert log_frobenius(spread).item() == pytest.approx(-math.log(4))
    assert log_frobenius(torch.ones(1, 6, 4, dtype=torch.float64)).item() == pytest.approx(0)


def test_coding_rate__known_value_determinant_and_sign() -> None:
    z = unit(known_views())
    assert coding_rate(z, eps=0.2).item() == pytest.approx(2.488135, abs=1e-6)
    for views in (unit(random_views(2, 5, 9)), unit(random_views(2, 9, 5))):
        whole = torch.eye(views.shape[2]) + views.shape[2] / (views.shape[1] * 0.2) * views.mT @ views
        torch.testing.assert_close(coding_rate(views, eps=0.2), torch.logdet(whole).mean() / 2)
    collapsed = unit(torch.ones(1, 20, 8, dtype=torch.float64))
    assert coding_rate(unit(random_views(1, 20, 8)), eps=0.2) > 2 * coding_rate(collapsed, eps=0.2)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_directions__have_length_one_and_follow_the_generator(kind: torch.dtype) -> None:
    z = torch.zeros(1, 2, 7, dtype=kind)
    one, other = (directions(z, slices=5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.dtype == kind
    assert torch.equal(one, other)
    torch.testing.assert_close(one.norm(dim=0), torch.ones(5, dtype=kind))

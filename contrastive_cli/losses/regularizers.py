"""What keeps the projections of a batch apart without negatives: how they lie as a whole is held to a wanted form.

SIGReg (Balestriero and LeCun, "LeJEPA", 2025, https://arxiv.org/abs/2511.08544), VISReg (2026,
https://arxiv.org/abs/2606.02572), VICReg (Bardes et al., ICLR 2022, https://arxiv.org/abs/2105.04906), Barlow Twins
(Zbontar et al., ICML 2021, https://arxiv.org/abs/2103.03230), FroSSL (Skean et al., ECCV 2024,
https://arxiv.org/abs/2310.02903) and the total coding rate of EMP-SSL (Tong et al. 2023,
https://arxiv.org/abs/2304.03977). All take z [V, B, P] of V views in float32 or float64, and call outside of autocast.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

KNOTS, LARGEST_FREQUENCY = 17, 3.0
STANDARDIZE_EPS, DEVIATION_EPS, BATCH_NORM_EPS = 1e-4, 1e-4, 1e-5


def sigreg(z: Tensor, *, slices: int, generator: Generator | None = None) -> Tensor:
    """How far the projections onto random directions are from standard normal, by their characteristic function.

    Of each view and direction: B times the integral over t in [-3, 3] of |mean exp(i t x) - g|^2 g, g = exp(-t^2 / 2),
    by the trapezoidal rule on 17 knots of its half (the statistic of Epps and Pulley). It grows with the batch B unless
    the form is right.

    Args:
        z: [V, B, P].
        slices: Directions, drawn from `generator`.
        generator: On the CPU; None for torch's own.

    Returns:
        Scalar mean over views and directions, >= 0.
    """
    along = z @ directions(z, slices=slices, generator=generator)  # [V, B, M]
    t = torch.linspace(0, LARGEST_FREQUENCY, KNOTS, dtype=z.dtype, device=z.device)
    normal = (-t.square() / 2).exp()
    weights = normal * (2 * LARGEST_FREQUENCY / (KNOTS - 1))  # both halves of an even function
    weights[[0, -1]] /= 2
    turned = along[..., None] * t  # [V, B, M, T]
    error = (turned.cos().mean(dim=1) - normal).square() + turned.sin().mean(dim=1).square()  # [V, M, T]
    return z.shape[1] * (error @ weights).mean()


def visreg_shape(z: Tensor, *, slices: int, generator: Generator | None = None) -> Tensor:
    """Mean squared distance of the sorted projections of standardized z [V, B, P] from normal quantiles i / (B + 1).

    The deviation that standardizes gets no gradient, so that the shape says nothing of the scale. Scalar, >= 0.
    """
    deviation = z.std(dim=1, unbiased=False, keepdim=True).detach()
    standard = (z - z.mean(dim=1, keepdim=True)) / (deviation + STANDARDIZE_EPS)
    along = (standard @ directions(z, slices=slices, generator=generator)).sort(dim=1).values  # [V, B, M]
    places = torch.arange(1, z.shape[1] + 1, dtype=z.dtype, device=z.device) / (z.shape[1] + 1)
    quantiles = math.sqrt(2) * torch.erfinv(2 * places - 1)
    return (along - quantiles[:, None]).square().mean()


def visreg_scale(z: Tensor) -> Tensor:
    """Mean squared distance of the deviations of z [V, B, P] from 1; a scalar >= 0."""
    return (1 - z.std(dim=1, unbiased=False)).square().mean()


def visreg_center(z: Tensor) -> Tensor:
    """Mean square of the means of z [V, B, P] over the batch; a scalar >= 0."""
    return z.mean(dim=1).square().mean()


def variance_hinge(z: Tensor) -> Tensor:
    """How much the deviations of z [V, B, P] fall short of 1: VICReg's variance term, a scalar in [0, 1]."""
    return F.relu(1 - (z.var(dim=1) + DEVIATION_EPS).sqrt()).mean()


def covariance_square(z: Tensor) -> Tensor:
    """VICReg's covariance term: squared covariances of different dimensions of z [V, B, P], summed, over P.

    Twice the mean over views, which is the sum of two views, as in the paper. Scalar, >= 0.
    """
    centered = z - z.mean(dim=1, keepdim=True)
    covariance = centered.mT @ centered / (z.shape[1] - 1)  # [V, P, P]
    return 2 * off_diagonal_square(covariance).mean() / z.shape[2]


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlations [..., P, P] over the batch of the dimensions of two sets of projections [..., B, P]."""
    first, second = _batch_normed(first), _batch_normed(second)
    return first.mT @ second / first.shape[-2]


def off_diagonal_square(matrix: Tensor) -> Tensor:
    """Sum of the squares off the diagonal of [..., P, P]: [...]."""
    return matrix.square().sum(dim=(-2, -1)) - matrix.diagonal(dim1=-2, dim2=-1).square().sum(dim=-1)


def log_frobenius(z: Tensor) -> Tensor:
    """Sum over views of log ||z_v' z_v||_F^2 of z [V, B, P] at trace 1: least where all eigenvalues are equal.

    Source: FroSSL, the regularization of its multi-view loss. In [-V log min(B, P), 0].
    """
    gram = _small_gram(z)
    gram = gram / gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[:, None, None]
    return gram.square().sum(dim=(1, 2)).log().sum()


def coding_rate(z: Tensor, *, eps: float) -> Tensor:
    """R = log det(I + P / (B eps) z_v' z_v) / 2 of unit rows z [V, B, P], mean over views; larger where more spread.

    Source: EMP-SSL, eq. 2. A loss subtracts it. (lightly 1.6.0 adds it, which rewards a collapse.)
    """
    gram = _small_gram(z) * (z.shape[2] / (z.shape[1] * eps))
    gram = gram + torch.eye(gram.shape[-1], dtype=z.dtype, device=z.device)
    rate: Tensor = torch.linalg.cholesky(gram).diagonal(dim1=-2, dim2=-1).log().sum(dim=-1).mean()
    return rate


def directions(z: Tensor, *, slices: int, generator: Generator | None) -> Tensor:
    """Random unit vectors [P, slices] of the kind of z [V, B, P], uniform on the sphere; `generator` is on the CPU."""
    drawn = torch.randn(z.shape[2], slices, generator=generator, dtype=torch.float32)
    return F.normalize(drawn, dim=0).to(z)


def _small_gram(z: Tensor) -> Tensor:
    """Z z' or z' z [V, N, N], whichever is smaller: the eigenvalues beside 0 are the same."""
    return z @ z.mT if z.shape[1] <= z.shape[2] else z.mT @ z


def _batch_normed(z: Tensor) -> Tensor:
    centered = z - z.mean(dim=-2, keepdim=True)
    return centered * (centered.square().mean(dim=-2, keepdim=True) + BATCH_NORM_EPS).rsqrt()

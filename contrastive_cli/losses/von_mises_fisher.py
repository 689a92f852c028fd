"""The von Mises-Fisher distribution on the unit sphere of R^D: log-normalizer, mean length, reparameterised samples.

Density C_D(kappa) exp(kappa mu . x). Everything of kappa alone is computed in float64, from D = 2 to thousands: the
uniform expansion of the Bessel function I_v for large orders (NIST DLMF 10.41.3), carried down to small ones by its
recurrence, which is stable in that direction. kappa is best kept at 1e6 or below.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SMALLEST_ORDER = 32.0  # of a Bessel function that is expanded; six terms leave a relative error below 1e-10
QUADRATURE_NODES = 20
TAIL = 9.0  # standard deviations of the angle, beyond which the density is nothing
SMALLEST_KAPPA = 1e-12

# Numerators of Debye's polynomials u_1 ... u_5, coefficients of t^k, t^(k+2), ..., and their denominators.
_DEBYE = (
    ((3, -5), 24),
    ((81, -462, 385), 1152),
    ((30375, -369603, 765765, -425425), 414720),
    ((4465125, -94121676, 349922430, -446185740, 185910725), 39813120),
    ((1519035525, -49286948607, 284499769554, -614135872350, 566098157625, -188699385875), 6688604160),
)


def log_normalizer(kappa: Tensor, *, dimension: int) -> Tensor:
    """The logarithm of C_D(kappa), differentiable once; its derivative is minus `mean_resultant_length`.

    Args:
        kappa: Concentrations >= 0 of any shape, floating.
        dimension: D >= 2, the width of the vectors.

    Returns:
        As `kappa` in shape and dtype; -log of the sphere's area at kappa = 0.

    Raises:
        ValueError: If D < 2.

    Source: Mardia and Jupp, Directional Statistics, 2000, section 9.3.2.
    """
    _check_dimension(dimension)
    result: Tensor = _LogNormalizer.apply(kappa, dimension)
    return result


def mean_resultant_length(kappa: Tensor, *, dimension: int) -> Tensor:
    """A_D(kappa) = I_{D/2}(kappa) / I_{D/2-1}(kappa): the expected cosine between a draw and mu, in [0, 1).

    Args:
        kappa: Concentrations >= 0 of any shape, floating.
        dimension: D >= 2.

    Returns:
        As `kappa`; the derivative is 1 - A^2 - (D - 1) A / kappa.

    Raises:
        ValueError: If D < 2.
    """
    _check_dimension(dimension)
    result: Tensor = _MeanResultantLength.apply(kappa, dimension)
    return result


def sample(mu: Tensor, kappa: Tensor, *, samples: int, generator: torch.Generator | None = None) -> Tensor:
    """Exact draws with the gradient of both parameters.

    The cosine w to mu comes from the rejection scheme of Wood 1994 (doi:10.1080/03610919408813161) with Ulrich's
    envelope; the gradient of w is the implicit one, dw/dkappa = -(dF/dkappa) / f, by quadrature (Figurnov et al. 2018,
    https://arxiv.org/abs/1805.08498), so the rejections leave no bias. The rest is a uniform tangent at mu.

    Args:
        mu: Unit rows, [M, D] floating, D >= 2.
        kappa: [M], >= 0.
        samples: S, draws of every row.
        generator: Of the device of `mu`; None for torch's own.

    Returns:
        Unit rows [S, M, D] in the dtype of `mu`.

    Raises:
        ValueError: If shapes do not fit.
    """
    num_rows, dimension = mu.shape
    _check_dimension(dimension)
    if kappa.shape != (num_rows,):
        raise ValueError(f"kappa must have the shape [{num_rows}] of the rows of mu, not {list(kappa.shape)}")
    cosine = sample_cosine(kappa.expand(samples, num_rows), dimension=dimension, generator=generator).to(mu.dtype)
    noise = torch.randn(samples, num_rows, dimension, dtype=mu.dtype, device=mu.device, generator=generator)
    tangent = noise - (noise * mu).sum(dim=-1, keepdim=True) * mu
    tangent = torch.nn.functional.normalize(tangent, dim=-1)
    sine = (1 - cosine.square()).clamp(min=torch.finfo(mu.dtype).tiny).sqrt()
    return cosine[..., None] * mu + sine[..., None] * tangent


def sample_cosine(kappa: Tensor, *, dimension: int, generator: torch.Generator | None = None) -> Tensor:
    """One draw of w = mu . x for every concentration, float64 in [-1, 1], with the implicit gradient of kappa."""
    _check_dimension(dimension)
    wide = _wide(kappa)
    with torch.no_grad():
        cosine = _reject(wide.clamp(min=SMALLEST_KAPPA), dimension=dimension, generator=generator)
    result: Tensor = _ImplicitCosine.apply(wide, cosine, dimension)
    return result


def cosine_gradient(cosine: Tensor, kappa: Tensor, *, dimension: int) -> Tensor:
    """The derivative dw/dkappa >= 0 at a fixed quantile: the integral of |A - w'| f over the tail without A, by f(w).

    Args:
        cosine: w in [-1, 1], float64.
        kappa: Of the same shape, float64, > 0.
        dimension: D >= 2.
    """
    mean = mean_resultant_length(kappa, dimension=dimension)
    angle = cosine.clamp(-1, 1).acos()
    # In the angle, where f ~ exp(kappa cos) sin^(D-2) has no pole: its mode has the cosine kappa / e.
    e = ((dimension - 2) + ((dimension - 2) ** 2 + 4 * kappa.square()).sqrt()) / 2
    reach = TAIL * (kappa.square() / e + e).rsqrt()
    far = torch.where(cosine < mean, (angle + reach).clamp(max=math.pi), (angle - reach).clamp(min=0))
    nodes, weights = (part.to(kappa) for part in _gauss_legendre(QUADRATURE_NODES))
    angles = angle[..., None] + (far - angle)[..., None] * nodes  # [..., Q]
    cosines, sines = angles.cos(), angles.sin().clamp(min=1e-300)
    sine = angle.sin().clamp(min=1e-300)
    exponent = kappa[..., None] * (cosines - cosine[..., None])
    if dimension > 2:
        exponent = exponent + (dimension - 2) * (sines / sine[..., None]).log()
    density = exponent.clamp(max=700).exp()
    integral = ((mean[..., None] - cosines).abs() * density * weights).sum(dim=-1) * (far - angle).abs()
    return integral * sine


class _LogNormalizer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dimension: int) -> Tensor:
        order = dimension / 2 - 1
        log_area = math.log(2) + (order + 1) * math.log(math.pi) - math.lgamma(order + 1)
        wide = _wide(kappa)
        growth, ratio = _bessel(wide, order)
        ctx.save_for_backward((-ratio * wide).to(kappa.dtype))
        return (-log_area - growth).to(kappa.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad_output * slope, None


class _MeanResultantLength(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dimension: int) -> Tensor:
        wide = _wide(kappa)
        _, ratio = _bessel(wide, dimension / 2 - 1)
        ctx.save_for_backward((1 - (ratio * wide).square() - (dimension - 1) * ratio).to(kappa.dtype))
        return (ratio * wide).to(kappa.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad_output * slope, None


class _ImplicitCosine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kappa: Tensor, cosine: Tensor, dimension: int) -> Tensor:
        ctx.save_for_backward(kappa, cosine)
        ctx.dimension = dimension
        return cosine.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        kappa, cosine = ctx.saved_tensors
        slope = cosine_gradient(cosine, kappa.clamp(min=SMALLEST_KAPPA), dimension=ctx.dimension)
        return grad_output * slope, None, None


def _bessel(kappa: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """log(Gamma(v+1) (2/kappa)^v I_v(kappa)), which is 0 at 0, and I_{v+1}(kappa) / (kappa I_v(kappa))."""
    shift = max(0, math.ceil(SMALLEST_ORDER - order))
    growth, ratio = _expand(kappa, order + shift)
    square = kappa.square()
    for step in range(shift, 0, -1):
        v = order + step  # from (v, v+1) to (v-1, v)
        ratio = 1 / (2 * v + square * ratio)
        growth = growth - (ratio * (2 * v)).log()
    return growth, ratio


def _expand(kappa: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """What `_bessel` returns, by the uniform expansion for a large order; the ratio is the derivative over kappa."""
    p = (order * order + kappa.square()).sqrt()
    t = order / p
    square = t.square()
    series, slope = torch.ones_like(t), torch.zeros_like(t)
    for k, (coefficients, denominator) in enumerate(_DEBYE, start=1):
        value, change = torch.full_like(t, coefficients[-1]), torch.full_like(t, (3 * k) * coefficients[-1])
        for i in range(len(coefficients) - 2, -1, -1):
            value.mul_(square).add_(coefficients[i])
            change.mul_(square).add_((k + 2 * i) * coefficients[i])
        scale = t ** (k - 1) / (order**k * denominator)
        series.addcmul_(value.mul_(t), scale)
        slope.addcmul_(change, scale)
    constant = math.lgamma(order + 1) - 0.5 * math.log(2 * math.pi)
    growth = constant + p - order * ((order + p) / 2).log() - 0.5 * p.log() + series.log()
    ratio = 1 / (order + p) - 0.5 / p.square() - order / p**3 * slope / series
    return growth, ratio


def _reject(kappa: Tensor, *, dimension: int, generator: torch.Generator | None) -> Tensor:
    flat = kappa.flatten()
    cosine = torch.empty_like(flat)
    pending = torch.arange(len(flat), device=flat.device)
    while len(pending):
        k = flat[pending]
        u = torch.rand(3, len(pending), dtype=k.dtype, device=k.device, generator=generator)
        # The first coordinate of a uniform point on the sphere: Ulrich 1984, doi:10.2307/2347441.
        exponent = math.inf if dimension == 2 else 2 / (dimension - 2)
        coordinate = (1 - u[0] ** exponent).sqrt() * (2 * math.pi * u[1]).cos()
        b = (dimension - 1) / (2 * k + (4 * k.square() + (dimension - 1) ** 2).sqrt())
        middle = (1 - b) / (1 + b)
        proposal = (1 - b - (1 + b) * coordinate) / (1 + b - (1 - b) * coordinate)
        log_ratio = k * (proposal - middle) + (dimension - 1) * ((1 - middle * proposal) / (1 - middle**2)).log()
        accepted = log_ratio >= u[2].log()
        cosine[pending[accepted]] = proposal[accepted]
        pending = pending[~accepted]
    return cosine.view(kappa.shape)


@functools.lru_cache(maxsize=4)
def _gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], float64."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def _wide(kappa: Tensor) -> Tensor:
    """float64, where the device has it."""
    return kappa if kappa.device.type == "mps" else kappa.double()


def _check_dimension(dimension: int) -> None:
    if dimension < 2:
        raise ValueError(f"the sphere needs a dimension of at least 2, not {dimension}")

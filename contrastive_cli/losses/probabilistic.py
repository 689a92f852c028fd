"""Contrastive losses of distributions instead of points: by samples, or by closed-form similarities of two posteriors.

Every loss takes the posteriors of two views of N images, stacked [2N, ...]: rows i and i + N are one image.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from contrastive_cli.losses.von_mises_fisher import log_normalizer

Negatives = Literal["sum", "mean"]

CHUNK_ENTRIES = 2**22  # pairs times dimensions held at once by the Gaussian similarity


def mc_info_nce(z: Tensor, *, inverse_temperature: float | Tensor, negatives: Negatives = "sum") -> Tensor:
    """Monte-Carlo InfoNCE: the likelihood that the positive is picked, averaged over draws before the logarithm.

    Args:
        z: S draws of every posterior, unit rows, [S, 2N, D] floating; draws with one index meet each other.
        inverse_temperature: k > 0, a number or a scalar tensor.
        negatives: "sum" of the 2N - 2 rows of other images, as in NT-Xent, which this is where all draws are equal;
            or their "mean", as in the paper, where a positive weighs as much as all negatives.

    Returns:
        Scalar: -mean_i log (1/S) sum_s exp(k z_i.z_p) / (exp(k z_i.z_p) + sum or mean over n of exp(k z_i.z_n)).

    Raises:
        ValueError: If z is not [S, 2N, D] with N >= 2.

    Source: Kirchhof, Kasneci, Oh, "Probabilistic Contrastive Learning Recovers the Correct Aleatoric Uncertainty of
    Ambiguous Inputs", ICML 2023, https://arxiv.org/abs/2302.02865, Eq. 4.
    """
    if z.ndim != 3:
        raise ValueError(f"z must be [S, 2N, D], not {list(z.shape)}")
    samples, num_rows, _ = z.shape
    _check_rows(num_rows)
    anchors = z * inverse_temperature
    positive = (anchors * z.roll(num_rows // 2, dims=1)).sum(dim=-1)  # [S, 2N]
    others: Tensor = _LogPartition.apply(anchors, z)
    log_likelihood = positive - torch.logaddexp(positive, others - _log_weight(num_rows, negatives))
    return -(log_likelihood.logsumexp(dim=0) - math.log(samples)).mean()


def softmax_loss(similarity: Tensor, *, negatives: Negatives = "sum") -> Tensor:
    """InfoNCE of a similarity [2N, 2N] of posteriors that is a logit already; scalar mean over the anchors.

    Raises:
        ValueError: If it is not square with N >= 2.
    """
    num_rows = len(similarity)
    _check_rows(num_rows)
    if similarity.shape != (num_rows, num_rows):
        raise ValueError(f"similarity must be [2N, 2N], not {list(similarity.shape)}")
    row = torch.arange(num_rows, device=similarity.device)
    partner = row.roll(num_rows // 2)
    positive = similarity[row, partner]
    excluded = torch.stack([row, partner], dim=1)
    others = similarity.scatter(1, excluded, -math.inf).logsumexp(dim=1)
    return (torch.logaddexp(positive, others - _log_weight(num_rows, negatives)) - positive).mean()


def view_likelihood(mu: Tensor, kappa: Tensor) -> Tensor:
    """Minus the log-likelihood of the direction of an image's other view under the posterior of this one.

    Its minimum over kappa is where `mean_resultant_length(kappa)` is the cosine to expect, so kappa is calibrated: it
    says how far the views of an image like this one fall apart. No pair of images takes part.

    Args:
        mu: Unit rows, [2N, D].
        kappa: [2N], positive.

    Returns:
        Scalar: -mean_i (log C_D(kappa_i) + kappa_i mu_i . mu_p), per dimension (divided by D).

    Source: the density of von Mises-Fisher, Mardia and Jupp, Directional Statistics, 2000, section 9.3.2.
    """
    _check_rows(len(mu))
    cosine = (mu * mu.roll(len(mu) // 2, dims=0)).sum(dim=1)
    return -(log_normalizer(kappa, dimension=mu.shape[1]) + kappa * cosine).mean() / mu.shape[1]


def expected_likelihood(mu: Tensor, kappa: Tensor) -> Tensor:
    """Log of the integral of p_i p_j for every pair of von Mises-Fisher distributions.

    It is log C(k_i) + log C(k_j) - log C(|k_i mu_i + k_j mu_j|).

    Args:
        mu: Unit rows, [M, D].
        kappa: [M], positive.

    Returns:
        [M, M], in the dtype of `mu`.

    Source: Jebara and Kondor, "Bhattacharyya and Expected Likelihood Kernels", COLT 2003.
    """
    dimension = mu.shape[1]
    natural = kappa[:, None] * mu
    square = natural.square().sum(dim=1)
    length = (square[:, None] + square + 2 * natural @ natural.T).clamp(min=1e-6).sqrt()
    own = log_normalizer(kappa, dimension=dimension)
    return own[:, None] + own - log_normalizer(length, dimension=dimension)


def gaussian_likelihood(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log of the integral of p_i p_j for every pair of diagonal Gaussians: log N(m_i - m_j; 0, v_i + v_j).

    Without the constant D/2 log 2 pi. Works on row chunks, whose [C, M, D] are made again for the gradient.

    Args:
        mean: [M, D].
        log_variance: [M, D].

    Returns:
        [M, M], in the dtype of `mean`.
    """
    result: Tensor = _GaussianLikelihood.apply(mean, log_variance.exp())
    return result


class _GaussianLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor) -> Tensor:
        ctx.save_for_backward(mean, variance)
        result = mean.new_empty(len(mean), len(mean))
        for rows in _row_chunks(mean):
            total = variance[rows, None] + variance  # [C, M, D]
            distance = (mean[rows, None] - mean).square_().div_(total)
            result[rows] = -0.5 * distance.add_(total.log_()).sum(dim=-1)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = ctx.saved_tensors
        grad_mean, grad_variance = torch.zeros_like(mean), torch.zeros_like(variance)
        for rows in _row_chunks(mean):
            precision = 1 / (variance[rows, None] + variance)  # [C, M, D]
            scaled = (mean[rows, None] - mean) * precision
            incoming = grad_output[rows, :, None]
            by_variance = 0.5 * incoming * (scaled.square() - precision)
            by_mean = scaled.mul_(incoming)
            grad_mean[rows] -= by_mean.sum(dim=1)
            grad_mean += by_mean.sum(dim=0)
            grad_variance[rows] += by_variance.sum(dim=1)
            grad_variance += by_variance.sum(dim=0)
        return grad_mean, grad_variance


def _row_chunks(mean: Tensor) -> list[slice]:
    size = max(1, CHUNK_ENTRIES // mean.numel())
    return [slice(start, start + size) for start in range(0, len(mean), size)]


class _LogPartition(torch.autograd.Function):
    """log of the sum of exp(a_i . z_n) over all rows n of other images, [S, 2N]; holds one [2N, 2N] at a time."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, z: Tensor) -> Tensor:
        scratch = z.new_empty(z.shape[1], z.shape[1])
        result = z.new_empty(z.shape[:2])
        for draw in range(len(z)):
            logits = _other_images(anchors[draw], z[draw], scratch)
            largest = logits.amax(dim=1, keepdim=True)
            result[draw] = (largest + logits.sub_(largest).exp_().sum(dim=1, keepdim=True).log()).squeeze(1)
        ctx.save_for_backward(anchors, z, result)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        anchors, z, log_partition = ctx.saved_tensors
        scratch = z.new_empty(z.shape[1], z.shape[1])
        grad_anchors, grad_z = torch.empty_like(anchors), torch.empty_like(z)
        for draw in range(len(z)):
            softmax = _other_images(anchors[draw], z[draw], scratch).sub_(log_partition[draw][:, None]).exp_()
            softmax.mul_(grad_output[draw][:, None])
            torch.mm(softmax, z[draw], out=grad_anchors[draw])
            torch.mm(softmax.T, anchors[draw], out=grad_z[draw])
        return grad_anchors, grad_z


def _other_images(anchors: Tensor, z: Tensor, scratch: Tensor) -> Tensor:
    """Similarities [2N, 2N] with -inf where both rows are one image; overwrites `scratch`."""
    half = len(z) // 2
    logits = torch.mm(anchors, z.T, out=scratch)
    for offset in (-half, 0, half):
        logits.diagonal(offset).fill_(-math.inf)
    return logits


def _log_weight(num_rows: int, negatives: Negatives) -> float:
    return math.log(num_rows - 2) if negatives == "mean" else 0.0


def _check_rows(num_rows: int) -> None:
    if num_rows < 4 or num_rows % 2:
        raise ValueError(f"needs two views of at least 2 images, not {num_rows} rows")

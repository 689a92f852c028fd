from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from contrastive_cli.losses import probabilistic
from contrastive_cli.losses.contrastive import nt_xent
from contrastive_cli.losses.probabilistic import (
    Negatives,
    expected_likelihood,
    gaussian_likelihood,
    mc_info_nce,
    softmax_loss,
    view_likelihood,
)
from contrastive_cli.losses.von_mises_fisher import mean_resultant_length, sample


def unit_rows(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_mc_info_nce(z: Tensor, k: float, negatives: Negatives) -> float:
    """The formula of the paper in plain loops; z: [S, 2N, D]."""
    samples, num_rows, _ = z.shape
    total = 0.0
    for i in range(num_rows):
        p = (i + num_rows // 2) % num_rows
        likelihood = 0.0
        for s in range(samples):
            positive = math.exp(k * float(z[s, i] @ z[s, p]))
            others = [math.exp(k * float(z[s, i] @ z[s, n])) for n in range(num_rows) if n not in (i, p)]
            likelihood += positive / (positive + sum(others) / (len(others) if negatives == "mean" else 1)) / samples
        total -= math.log(likelihood) / num_rows
    return total


@pytest.mark.parametrize("negatives", ["sum", "mean"])
@pytest.mark.parametrize("k", [0.5, 20.0])
def test_mc_info_nce__matches_slow_loops(k: float, negatives: Negatives) -> None:
    z = unit_rows(3, 8, 5)
    loss = mc_info_nce(z, inverse_temperature=k, negatives=negatives)
    assert loss.item() == pytest.approx(slow_mc_info_nce(z, k, negatives), rel=1e-9)


def test_mc_info_nce__gradient() -> None:
    z = unit_rows(2, 6, 3).requires_grad_()
    k = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    for negatives in ("sum", "mean"):
        assert torch.autograd.gradcheck(
            lambda rows, scale, kind=negatives: mc_info_nce(rows, inverse_temperature=scale, negatives=kind), (z, k)
        )


def test_mc_info_nce__is_nt_xent_where_all_draws_are_mu() -> None:
    mu = unit_rows(12, 16).float()
    expected = nt_xent(mu[:6], mu[6:], temperature=0.1)
    torch.testing.assert_close(mc_info_nce(mu.expand(4, 12, 16), inverse_temperature=10.0), expected)
    draws = sample(mu, torch.full((12,), 1e6), samples=64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mc_info_nce(draws, inverse_temperature=10.0), expected, rtol=5e-3, atol=0)


def test_mc_info_nce__draws_without_direction_know_nothing() -> None:
    draws = sample(
        unit_rows(8, 64).float(), torch.full((8,), 1e-6), samples=200, generator=torch.Generator().manual_seed(0)
    )
    assert mc_info_nce(draws, inverse_temperature=1.0).item() == pytest.approx(math.log(7), abs=0.01)


def test_softmax_loss__is_nt_xent_of_cosines() -> None:
    mu = unit_rows(10, 4)
    expected = nt_xent(mu[:5], mu[5:], temperature=0.2)
    torch.testing.assert_close(softmax_loss(mu @ mu.T / 0.2), expected)
    weaker = softmax_loss(mu @ mu.T / 0.2, negatives="mean")
    assert 0 < weaker.item() < expected.item()


def test_view_likelihood__is_the_density_of_scipy() -> None:
    mu = unit_rows(6, 4, seed=5)
    kappa = torch.tensor([0.5, 3.0, 20.0, 1.0, 8.0, 60.0], dtype=torch.float64)
    densities = [
        stats.vonmises_fisher(mu[i].numpy(), kappa[i].item()).logpdf(mu[(i + 3) % 6].numpy()) for i in range(6)
    ]
    assert view_likelihood(mu, kappa).item() == pytest.approx(-np.mean(densities) / 4, rel=1e-6)


def test_view_likelihood__is_least_where_kappa_expects_the_cosine() -> None:
    cosine = 0.7
    mu = torch.zeros(4, 16, dtype=torch.float64)
    mu[:2, 0], mu[2:, 0], mu[2:, 1] = 1.0, cosine, math.sqrt(1 - cosine**2)
    kappas = torch.linspace(5, 40, 3001, dtype=torch.float64)
    best = kappas[torch.stack([view_likelihood(mu, kappa.expand(4)) for kappa in kappas]).argmin()]
    assert mean_resultant_length(best, dimension=16).item() == pytest.approx(cosine, abs=1e-3)


def test_expected_likelihood__is_the_integral() -> None:
    # Of two densities on the circle, by a sum over a fine grid; and symmetric, largest where they agree.
    angles = torch.arange(20_000, dtype=torch.float64) * (2 * math.pi / 20_000)
    grid = torch.stack([angles.cos(), angles.sin()], dim=1)
    mu, kappa = unit_rows(5, 2), torch.tensor([0.2, 1.0, 5.0, 30.0, 80.0], dtype=torch.float64)
    density = torch.exp(kappa * (grid @ mu.T - 1))
    density = density / density.sum(dim=0) * (20_000 / (2 * math.pi))
    integral = density.T @ density * (2 * math.pi / 20_000)
    torch.testing.assert_close(expected_likelihood(mu, kappa), integral.log(), rtol=1e-6, atol=1e-6)


def test_expected_likelihood__gradient() -> None:
    mu, kappa = unit_rows(4, 6), torch.tensor([0.5, 3.0, 20.0, 60.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(expected_likelihood, (mu.requires_grad_(), kappa.requires_grad_()))


def test_gaussian_likelihood__matches_torch_and_chunks_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    mean = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_variance = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scale = (log_variance.exp()[:, None] + log_variance.exp()).sqrt()
    difference = mean[:, None] - mean
    expected = torch.distributions.Normal(0.0, scale).log_prob(difference).sum(dim=-1) + 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(gaussian_likelihood(mean, log_variance), expected)
    monkeypatch.setattr(probabilistic, "CHUNK_ENTRIES", 30)
    inputs = (mean.requires_grad_(), log_variance.requires_grad_())
    torch.testing.assert_close(gaussian_likelihood(*inputs), expected)
    assert torch.autograd.gradcheck(gaussian_likelihood, inputs)


def test_losses__refuse_what_does_not_fit() -> None:
    for rows in (2, 5):
        with pytest.raises(ValueError, match="two views of at least 2 images"):
            mc_info_nce(unit_rows(2, rows, 3), inverse_temperature=1.0)
    with pytest.raises(ValueError, match=r"\[S, 2N, D\]"):
        mc_info_nce(unit_rows(4, 3), inverse_temperature=1.0)
    with pytest.raises(ValueError, match=r"\[2N, 2N\]"):
        softmax_loss(torch.ones(4, 6))

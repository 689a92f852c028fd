from __future__ import annotations

import math

import pytest
import torch

from contrastive_cli.embeddings.health import embedding_health


def test_embedding_health__isotropic_spread_is_one() -> None:
    h = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    spread, effective_rank = embedding_health(h)
    assert spread == pytest.approx(1, abs=0.02)
    assert effective_rank == pytest.approx(16, abs=0.1)


def test_embedding_health__one_point_is_collapsed() -> None:
    spread, effective_rank = embedding_health(torch.ones(32, 8))
    assert spread == pytest.approx(0, abs=1e-6)
    assert effective_rank == pytest.approx(1, abs=1e-3)


def test_embedding_health__rank_is_closed_form() -> None:
    # Singular values 3, 1, 0: shares 3/4, 1/4, 0.
    h = torch.zeros(5, 3)
    h[0, 0], h[1, 1] = 3, 1
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert embedding_health(h)[1] == pytest.approx(math.exp(entropy), rel=1e-6)


def test_embedding_health__line_spreads_but_has_rank_one() -> None:
    direction = torch.ones(1, 4)
    h = torch.cat([direction, -direction]).repeat(8, 1)
    spread, effective_rank = embedding_health(h)
    assert spread > 0.9
    assert effective_rank == pytest.approx(1, abs=1e-3)


def test_embedding_health__scale_does_not_matter() -> None:
    h = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    assert embedding_health(1e3 * h) == pytest.approx(embedding_health(h), rel=1e-4)


def test_embedding_health__zeros_and_half_precision() -> None:
    assert embedding_health(torch.zeros(4, 3)) == (0.0, 1.0)
    assert math.isfinite(embedding_health(torch.eye(4, dtype=torch.bfloat16))[1])


def test_embedding_health__not_a_number_does_not_raise() -> None:
    h = torch.ones(4, 3)
    h[1, 1] = math.nan
    assert all(math.isnan(value) for value in embedding_health(h))


@pytest.mark.parametrize("shape", [(1, 3), (3,), (2, 3, 4)])
def test_embedding_health__refuses_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="B >= 2"):
        embedding_health(torch.ones(shape))

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from contrastive_cli.views.sources import view_sources

NUM_IMAGES, K = 4000, 5
NEIGHBORS = (torch.arange(NUM_IMAGES)[:, None] + torch.arange(1, K + 1)) % NUM_IMAGES  # of i: i + 1 ... i + K
EVERY = torch.arange(NUM_IMAGES)


def draw(
    indices: Tensor = EVERY, probabilities: tuple[float, ...] = (0.0, 0.3, 1.0), *, seed: int = 0, epoch: int = 0
) -> Tensor:
    return view_sources(indices, neighbors=NEIGHBORS, probabilities=probabilities, seed=seed, epoch=epoch)


def test_view_sources__each_view_has_its_probability() -> None:
    never, sometimes, always = draw() != EVERY
    assert not never.any()
    assert always.all()
    assert stats.binomtest(int(sometimes.sum()), NUM_IMAGES, 0.3).pvalue > 1e-3


def test_view_sources__every_neighbor_is_as_likely_and_no_other_is_shown() -> None:
    ranks = ((draw() - EVERY) % NUM_IMAGES)[1:]
    assert int(ranks.max()) <= K
    for row in ranks:
        counts = np.bincount(row.numpy(), minlength=K + 1)[1:]
        assert stats.chisquare(counts).pvalue > 1e-3
    # Which neighbor is shown says nothing of whether one is.
    whether = draw(probabilities=(0.3, 1.0))
    also = draw(probabilities=(1.0, 1.0))
    shown = (whether[0] != EVERY).numpy()
    rank = ((also[0] - EVERY) % NUM_IMAGES).numpy()
    assert stats.chi2_contingency(np.histogram2d(shown, rank, bins=(2, K))[0]).pvalue > 1e-3


def test_view_sources__a_function_of_seed_epoch_sample_and_view_alone() -> None:
    whole = draw()
    picked = torch.tensor([3999, 7, 7, 120])
    assert torch.equal(draw(picked), whole[:, picked])
    assert torch.equal(draw(probabilities=(0.0, 0.3)), whole[:2])


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_view_sources__seeds_epochs_and_views_differ(other: dict[str, int]) -> None:
    first, second = (draw(EVERY, (1.0, 1.0), **counters) for counters in ({}, other))
    for one, two in ((first[0], second[0]), (first[0], first[1])):
        same = int((one == two).sum())
        assert stats.binomtest(same, NUM_IMAGES, 1 / K).pvalue > 1e-3


def test_view_sources__rank_never_reaches_k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastive_cli.views.sources.uniform", lambda **counters: torch.full((2, 2), 1 - 2.0**-24))
    neighbors = torch.arange(1, 2 * 33 + 1).view(2, 33)
    found = view_sources(torch.arange(2), neighbors=neighbors, probabilities=[1.0], seed=0, epoch=0)
    assert found.tolist() == [[33, 66]]

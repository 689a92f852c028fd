"""Draws: uniform, independent over every counter, and a function of the counters alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from contrastive_cli.views.draws import normal, uniform

ROWS = torch.arange(5000)


def draw(
    seed: int = 0, epoch: int = 0, view: int = 0, stream: int = 0, indices: torch.Tensor = ROWS, slots: int = 8
) -> torch.Tensor:
    return uniform(seed=seed, epoch=epoch, indices=indices, views=[view], slots=slots, stream=stream)


def test_uniform__golden_values() -> None:
    rows = draw(seed=7, epoch=3, view=1, indices=torch.tensor([0, 1, 2**40]), slots=3)
    assert (rows * 2**24).long().tolist() == [
        [7181595, 8113932, 12551383],
        [13210314, 5036360, 2427923],
        [8106594, 11403842, 16520576],
    ]


def test_uniform__is_uniform_in_every_slot() -> None:
    draws = draw(slots=40)
    assert draws.dtype == torch.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    pvalues = [stats.kstest(column, "uniform").pvalue for column in draws.T.numpy()]
    assert min(pvalues) > 1e-4
    assert stats.kstest(pvalues, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"seed": 2**32}, {"epoch": 1}, {"view": 1}, {"stream": 1}, {"indices": ROWS + 1}],
    ids=str,
)
def test_uniform__neighbors_are_uncorrelated(other: dict[str, int]) -> None:
    first, second = draw(), draw(**other)  # type: ignore[arg-type]
    correlations = np.corrcoef(first.T.numpy(), second.T.numpy())
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 4.5 / len(ROWS) ** 0.5
    assert (first == second).float().mean() < 1e-4


def test_uniform__depends_on_counters_alone() -> None:
    rows = draw(slots=9)
    picked = torch.tensor([4021, 3, 3, 77])
    assert torch.equal(draw(indices=picked, slots=5), rows[picked, :5])


def test_uniform__views_follow_each_other() -> None:
    together = uniform(seed=4, epoch=2, indices=ROWS, views=[3, 0], slots=5)
    apart = [draw(seed=4, epoch=2, view=view, slots=5) for view in (3, 0)]
    assert torch.equal(together, torch.cat(apart))


def test_uniform__samples_and_epochs_rarely_share_draws() -> None:
    pairs = torch.cat([draw(epoch=epoch, slots=2) for epoch in range(40)])
    assert len(torch.unique(pairs, dim=0)) == len(pairs)


def test_normal__is_normal_and_odd_slots_agree() -> None:
    draws = normal(seed=0, epoch=0, indices=ROWS, views=[0], slots=7)
    assert draws.shape == (5000, 7)
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(draws.T.numpy()) - np.eye(7)).max() < 4.5 / len(ROWS) ** 0.5
    torch.testing.assert_close(normal(seed=0, epoch=0, indices=ROWS[5:6], views=[0], slots=8)[:, :7], draws[5:6])


def test_uniform__matches_plain_integers() -> None:
    def mix(word: int) -> int:
        word = ((word ^ word >> 16) * 0x21F0AAAD) % 2**32
        word = ((word ^ word >> 15) * 0x735A2D97) % 2**32
        return word ^ word >> 15

    def word(key: int, index: int) -> int:
        for part in (seed % 2**32, seed >> 32, epoch, view, stream):
            key = (mix(key ^ part) + 0x9E3779B9) % 2**32
        return mix(mix(index % 2**32 ^ key) ^ index >> 32)

    seed, epoch, view, stream = 2**40 + 12345, 17, 1, 2
    indices = [0, 5, 2**33 + 1]
    draws = draw(seed=seed, epoch=epoch, view=view, stream=stream, indices=torch.tensor(indices), slots=3)
    for row, index in zip(draws.tolist(), indices, strict=True):
        words = word(0x9E3779B9, index), word(0x735A2D97, index)
        expected = [mix(mix((words[0] + slot * 0x9E3779B9) % 2**32) ^ words[1]) >> 8 for slot in (1, 2, 3)]
        assert [value * 2**24 for value in row] == expected

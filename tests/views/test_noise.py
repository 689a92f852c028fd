from __future__ import annotations

import torch

from contrastive_cli.core.types import Batch
from contrastive_cli.views.noise import StepNoise


def noise(indices: list[int], *, seed: int = 3, step: int = 5) -> StepNoise:
    return StepNoise(seed=seed, step=step, indices=torch.tensor(indices))


def test_step_noise__depends_on_seed_step_and_sample_only() -> None:
    whole = noise([4, 9, 2, 7]).normal(6)
    assert whole.shape == (4, 6)
    assert torch.equal(noise([7, 4]).normal(6), whole[[3, 0]])
    assert torch.equal(noise([4, 9, 2, 7]).part(slice(1, 3)).normal(6), whole[1:3])
    for other in (noise([4, 9, 2, 7], seed=4), noise([4, 9, 2, 7], step=6)):
        assert not torch.isclose(other.normal(6), whole).any()
        assert other.step_seed != noise([4]).step_seed
    assert noise([4]).step_seed == noise([9]).step_seed


def test_step_noise__is_standard_normal() -> None:
    draws = noise(list(range(400))).normal(50)
    torch.testing.assert_close(draws.mean(), torch.tensor(0.0), atol=0.03, rtol=0)
    torch.testing.assert_close(draws.std(), torch.tensor(1.0), atol=0.03, rtol=0)


def test_batch_normal__moves_no_generator() -> None:
    indices = torch.arange(6)
    batch = Batch(views=(torch.zeros(1, 6, 1, 2, 2),), indices=indices, noise=noise(list(range(6))))
    before = torch.get_rng_state()
    parts = torch.cat([batch.part(slice(0, 2)).normal(3), batch.part(slice(2, 6)).normal(3)])
    assert torch.equal(parts, batch.normal(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert Batch(views=(torch.zeros(1, 6, 1, 2, 2),), indices=indices).normal(3).shape == (6, 3)

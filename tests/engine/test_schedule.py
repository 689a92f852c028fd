from __future__ import annotations

import pytest
import torch

from contrastive_cli.engine.schedule import warmup_cosine


def test_warmup_cosine__warms_up_linearly_to_base() -> None:
    values = [warmup_cosine(step, total_steps=20, warmup_steps=4, base=2.0) for step in range(5)]
    assert values == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_warmup_cosine__matches_torch_scheduler_after_warmup() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=16, eta_min=0.01)
    for step in range(4, 20):
        value = warmup_cosine(step, total_steps=20, warmup_steps=4, base=0.3, final=0.01)
        assert value == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("total_steps", "warmup_steps"), [(1, 0), (1, 1), (5, 5), (10, 0)])
def test_warmup_cosine__edges(total_steps: int, warmup_steps: int) -> None:
    values = [
        warmup_cosine(s, total_steps=total_steps, warmup_steps=warmup_steps, base=1.0) for s in range(total_steps)
    ]
    assert all(0 < value <= 1 for value in values)
    assert max(values) == 1
    end = warmup_cosine(total_steps + 3, total_steps=total_steps, warmup_steps=warmup_steps, base=1.0, final=0.1)
    assert end == 0.1


@pytest.mark.parametrize(("step", "warmup_steps"), [(-1, 0), (0, -1), (0, 11)])
def test_warmup_cosine__refuses(step: int, warmup_steps: int) -> None:
    with pytest.raises(ValueError, match="warmup_steps"):
        warmup_cosine(step, total_steps=10, warmup_steps=warmup_steps, base=1.0)

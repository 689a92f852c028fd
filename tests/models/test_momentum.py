from __future__ import annotations

import pytest
import torch
from torch import nn

from contrastive_cli.models.momentum import cosine_momentum, momentum_copy, move_average_


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


@pytest.mark.parametrize(("part", "tau"), [(0, 0.996), (1, 0.9965858), (2, 0.998), (3, 0.9994142), (4, 1.0), (5, 1.0)])
def test_cosine_momentum__published_values(part: int, tau: float) -> None:
    assert cosine_momentum(part * 100, total_steps=400, base=0.996) == pytest.approx(tau, abs=5e-8)


def test_cosine_momentum__rises_from_base_and_stays_below_one() -> None:
    values = [cosine_momentum(step, total_steps=7, base=0.9) for step in range(7)]
    assert values[0] == pytest.approx(0.9, abs=1e-15)
    assert values == sorted(values)
    assert values[-1] < 1


@pytest.mark.parametrize(("step", "total_steps", "base"), [(-1, 10, 0.9), (0, 0, 0.9), (0, 10, 1.1)])
def test_cosine_momentum__refuses(step: int, total_steps: int, base: float) -> None:
    with pytest.raises(ValueError, match="needs"):
        cosine_momentum(step, total_steps=total_steps, base=base)


def test_momentum_copy__equal_separate_and_out_of_reach() -> None:
    module = network(0)
    average = momentum_copy(module)
    for key, value in module.state_dict().items():
        assert torch.equal(average.state_dict()[key], value)
        assert average.state_dict()[key].data_ptr() != value.data_ptr()
    assert not any(weight.requires_grad for weight in average.parameters())
    assert all(weight.requires_grad for weight in module.parameters())


def test_move_average__closed_form_after_many_steps() -> None:
    """With fixed theta: xi_n = tau^n xi_0 + (1 - tau^n) theta."""
    module, average = network(0), momentum_copy(network(1))
    start = [weight.clone() for weight in average.parameters()]
    for _ in range(10):
        move_average_(average, module, tau=0.8)
    for moved, first, goal in zip(average.parameters(), start, module.parameters(), strict=True):
        torch.testing.assert_close(moved, 0.8**10 * first + (1 - 0.8**10) * goal)
        assert not moved.requires_grad


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_move_average__ends_of_the_range(tau: float) -> None:
    module, average = network(0), momentum_copy(network(1))
    expected = [weight.clone() for weight in (average if tau else module).parameters()]
    move_average_(average, module, tau=tau)
    assert all(torch.equal(moved, value) for moved, value in zip(average.parameters(), expected, strict=True))


def test_move_average__leaves_buffers_and_the_module_alone() -> None:
    module, average = network(0).train(), momentum_copy(network(1))
    module(torch.randn(8, 3))  # moves its running statistics and its counter of batches
    buffers = {key: value.clone() for key, value in average.named_buffers()}
    before = {key: value.clone() for key, value in module.state_dict().items()}
    move_average_(average, module, tau=0.5)
    assert all(torch.equal(value, buffers[key]) for key, value in average.named_buffers())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_move_average__small_increments_of_16_bit_weights_are_not_lost() -> None:
    module = network(0).bfloat16()
    average = momentum_copy(network(0).float())
    with torch.no_grad():
        module[0].weight.fill_(2.0)  # type: ignore[operator]
        average[0].weight.fill_(1.0)  # type: ignore[operator]
    for _ in range(100):
        move_average_(average, module, tau=0.9999)
    assert average[0].weight.dtype == torch.float32
    torch.testing.assert_close(average[0].weight, torch.full((5, 3), 2 - 0.9999**100), rtol=0, atol=2e-5)

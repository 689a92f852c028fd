from __future__ import annotations

import itertools

import pytest
import torch

from contrastive_cli.engine.schedule import Pace, warmup_cosine


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


def test_pace__a_step_is_a_step_where_nothing_is_corrected() -> None:
    pace = Pace.of(7)
    assert [pace.position(step) for step in range(8)] == list(range(8))
    assert (pace.planned_steps, pace.total_steps) == (7, 7)


@pytest.mark.parametrize("corrections", [[(3, 40)], [(1, 4), (2, 90), (50, 52)], [(9, 10)]])
def test_pace__corrections_bend_the_line_and_never_break_it(corrections: list[tuple[int, int]]) -> None:
    pace = Pace.of(10)
    for step, total in corrections:
        before = pace
        pace = pace.corrected(step, total_steps=total)
        assert [pace.position(k) for k in range(step + 1)] == [before.position(k) for k in range(step + 1)]
    places = [pace.position(step) for step in range(pace.total_steps + 3)]
    assert all(one < two for one, two in itertools.pairwise(places[: pace.total_steps + 1]))
    assert places[pace.total_steps :] == [10] * 3
    last, total = corrections[-1]
    left = [two - one for one, two in itertools.pairwise(places[last : total + 1])]
    assert left == pytest.approx([(10 - places[last]) / (total - last)] * (total - last))


def test_pace__a_second_correction_at_a_step_replaces_the_first() -> None:
    assert Pace.of(10).corrected(4, total_steps=20).corrected(4, total_steps=8) == Pace(((0, 10), (4, 8)))


def test_warmup_cosine__between_two_steps_of_the_warm_up_it_stays_below_the_base() -> None:
    assert warmup_cosine(3.5, total_steps=20, warmup_steps=4, base=2.0) == 2.0

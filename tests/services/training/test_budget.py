"""The clock of a budget, on machines whose speed is made up; a real one is kept by `tests/cli/test_busy_machine.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contrastive_cli.engine.schedule import Pace
from contrastive_cli.services.training.budget import LEAST_SHARE, BudgetClock
from contrastive_cli.services.training.cadence import Cadence


def train(
    clock: BudgetClock, pace: Pace, *, seconds_at: Callable[[float], float], look: float, now: float
) -> tuple[float, Pace]:
    """Steps that take `seconds_at(now)`, and ten looks; returns when it ended."""
    cadence = Cadence.of(pace, evaluations=10, save_every=120.0)
    clock.begin(0, now=now)
    step = 0
    while step < pace.total_steps:
        now += seconds_at(now)
        step += 1
        if step < pace.total_steps:
            pace = clock.corrected(pace, cadence, step=step, now=now)
        if cadence.evaluates(step, pace):
            now += look
            clock.looked(look)
    return now, pace


SPEEDS: dict[str, Callable[[float], float]] = {
    "even": lambda now: 0.1,
    "slow from the middle on": lambda now: 0.1 if now < 60 else 0.4,
    "fast from the middle on": lambda now: 0.4 if now < 60 else 0.1,
    "slow at the very end": lambda now: 0.1 if now < 115 else 0.4,
    "uneven": lambda now: 0.05 if int(now) % 7 else 0.7,
    "slow for a while": lambda now: 2.0 if 40 < now < 50 else 0.1,
    "long steps": lambda now: 3.0,
}


@pytest.mark.parametrize("guess", [5, 1000, 100_000])
@pytest.mark.parametrize("speed", SPEEDS)
def test_budget_clock__ends_within_a_tenth_whatever_the_machine_does(speed: str, guess: int) -> None:
    clock = BudgetClock(seconds=120.0, started=0.0)
    end, pace = train(clock, Pace.of(guess), seconds_at=SPEEDS[speed], look=0.5, now=4.0)
    assert 0.9 * 120 <= end <= 1.1 * 120
    assert len(pace.segments) <= 60


def test_budget_clock__keeps_a_plan_that_fits() -> None:
    clock = BudgetClock(seconds=100.0, started=0.0)
    _, pace = train(clock, Pace.of(970), seconds_at=lambda now: 0.1, look=0.0, now=0.0)
    assert pace.segments == ((0, 970),)


def test_budget_clock__images_that_took_longer_than_the_budget_leave_a_part_of_it() -> None:
    clock = BudgetClock(seconds=10.0, started=0.0)
    end, _ = train(clock, Pace.of(500), seconds_at=lambda now: 0.01, look=0.0, now=30.0)
    assert end - 30 == pytest.approx(10 * LEAST_SHARE, abs=0.3)


def test_budget_clock__a_resumed_training_has_what_is_left() -> None:
    clock = BudgetClock(seconds=100.0, started=0.0, spent=90.0)
    end, _ = train(clock, Pace.of(970), seconds_at=lambda now: 0.1, look=0.0, now=2.0)
    assert clock.passed(end) == pytest.approx(97.0, abs=0.5)


@pytest.mark.parametrize(("seconds", "look"), [(2.0, 15.0), (1.0, 30.0), (8.0, 12.0)])
def test_budget_clock__long_looks_are_no_reason_to_end_at_half_time(seconds: float, look: float) -> None:
    """Ten looks do not fit into the budget, but no more than one follows a step."""
    clock = BudgetClock(seconds=120.0, started=0.0)
    end, _ = train(clock, Pace.of(30), seconds_at=lambda now: seconds, look=look, now=4.0)
    assert 120 - 2 * (seconds + look) <= end <= 120 + seconds + look


def test_budget_clock__other_work_that_passes_does_not_end_the_schedule() -> None:
    """Ten seconds at a twentieth of the speed must not bring the learning rate down as if it were nearly over."""
    clock = BudgetClock(seconds=120.0, started=0.0)
    speed = SPEEDS["slow for a while"]
    end, pace = train(clock, Pace.of(1000), seconds_at=speed, look=0.5, now=4.0)
    assert 0.9 * 120 <= end <= 1.1 * 120
    assert min(total for _, total in pace.segments) > 0.75 * pace.total_steps

from __future__ import annotations

import math

import pytest

from contrastive_cli.engine.schedule import Pace
from contrastive_cli.services.training.cadence import Cadence


def cadence_of(pace: Pace, *, evaluations: int = 10, save_every: float = 120.0) -> Cadence:
    return Cadence.of(pace, evaluations=evaluations, save_every=save_every)


@pytest.mark.parametrize("total", [1, 3, 10, 33, 1000])
@pytest.mark.parametrize("evaluations", [0, 1, 3, 10])
def test_cadence__looks_are_spread_evenly_and_the_last_is_at_the_end(total: int, evaluations: int) -> None:
    pace = Pace.of(total)
    cadence = cadence_of(pace, evaluations=evaluations)
    looks = [step for step in range(1, total + 1) if cadence.evaluates(step, pace)]
    assert looks == sorted({math.ceil(total * k / evaluations) for k in range(1, evaluations + 1)})


def test_cadence__a_corrected_training_looks_as_often() -> None:
    pace = Pace.of(20).corrected(4, total_steps=200).corrected(100, total_steps=150)
    cadence = cadence_of(pace, evaluations=5)
    looks = [step for step in range(1, 151) if cadence.evaluates(step, pace)]
    assert len(looks) == 5
    assert looks[-1] == 150


def test_cadence__lines_come_about_two_hundred_times_at_looks_and_at_the_end() -> None:
    pace = Pace.of(1001)
    cadence = cadence_of(pace, evaluations=3)
    lines = [step for step in range(1, 1002) if cadence.logs(step, pace)]
    assert cadence.log_every == 5
    assert {5, 10, math.ceil(1001 / 3), 1001} <= set(lines)
    assert 200 <= len(lines) <= 204


def test_cadence__saves_by_the_clock_and_at_the_end() -> None:
    pace = Pace.of(10)
    cadence = cadence_of(pace, save_every=60.0)
    assert not cadence.saves(4, pace, seconds=59.9)
    assert cadence.saves(4, pace, seconds=60.0)
    assert cadence.saves(10, pace, seconds=0.0)

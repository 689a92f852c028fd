"""The time left after a tenth of a training, on machines whose speed is made up, is right within a fifth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from contrastive_cli.engine.schedule import Pace
from contrastive_cli.services.training.cadence import Cadence
from contrastive_cli.services.training.time_left import TimeLeft

NOISE = np.random.default_rng(0).uniform(0.75, 1.25, 2000)
STEPS: dict[str, Callable[[int], float]] = {
    "even": lambda step: 0.1,
    "noisy": lambda step: 0.1 * float(NOISE[step]),
    "slow at first": lambda step: 5.0 if step == 0 else 0.1,
    "twice as slow at first": lambda step: 0.2 if step < 10 else 0.1,
    "a step in ten waits": lambda step: 0.5 if step % 10 == 0 else 0.1,
}

SHOWN_LATER = ("twice as slow at first", "a step in ten waits")  # five steps of fifty cannot show it


@pytest.mark.parametrize("look", [0.0, 0.1, 8.0])
@pytest.mark.parametrize(
    ("machine", "total"),
    [
        *((machine, 1000) for machine in STEPS),
        *((machine, 50) for machine in STEPS if machine not in SHOWN_LATER),
    ],
)
@pytest.mark.parametrize("evaluations", [0, 10, 12])
def test_time_left__after_a_tenth(machine: str, total: int, look: float, evaluations: int) -> None:
    pace = Pace.of(total)
    cadence = Cadence.of(pace, evaluations=evaluations, save_every=1e9)
    now = asked_at = guess = 0.0
    left = TimeLeft(now)
    for step in range(1, total + 1):
        now += STEPS[machine](step - 1)
        looked = cadence.evaluates(step, pace)
        now += look * looked
        left.stepped(now, looked=looked)
        if step == max(total // 10, -(-total // evaluations) if evaluations else 0):  # after the first look, where any
            looks = evaluations - cadence.evaluated(step, pace)
            asked_at, guess = now, left.seconds(steps=total - step, looks=looks) or 0.0
    assert guess == pytest.approx(now - asked_at, rel=0.2)


def test_time_left__nothing_is_said_before_the_first_step() -> None:
    left = TimeLeft(0.0)
    assert left.seconds(steps=5, looks=1) is None
    left.stepped(2.0, looked=True)
    assert left.seconds(steps=5, looks=1) is not None

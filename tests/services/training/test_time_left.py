"""The time left after a tenth of a training, on machines whose speed is made up, is right within a fifth."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clr_process import TINY, clr_command, clr_environment

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


@pytest.mark.slow  # half a minute of training; a machine that does something else meanwhile makes it wrong
def test_pretrain__says_after_a_tenth_how_long_it_takes(tmp_path: Path, clr_cache: Path) -> None:
    arguments = ["pretrain", *TINY, "--epochs", "150", "--set", "train.evaluations=10", "--out", "r"]
    said: list[tuple[float, float]] = []  # when a line came, and the seconds left that it told
    with subprocess.Popen(
        clr_command(arguments), cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"^step .*  (\d+):(\d\d) left$", line):
                said.append((time.monotonic(), 60 * int(found[1]) + int(found[2])))
    assert process.returncode == 0
    (asked_at, guess), (ended, _) = said[0], said[-1]
    assert ended - asked_at > 10  # else a rounded second decides
    assert guess == pytest.approx(ended - asked_at, rel=0.2)

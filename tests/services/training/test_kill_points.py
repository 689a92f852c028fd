"""A training killed at any file operation and resumed is the training that was never killed, bit for bit."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from clr_process import clr_environment

SCRIPT = Path(__file__).with_name("kill_points.py")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def killed(method: str, points: list[str], settings: list[str], *, folder: Path, cache: Path) -> dict[str, str]:
    command = [sys.executable, str(SCRIPT), method, str(folder), *points, "--", *settings]
    done = subprocess.run(command, env=clr_environment(cache), capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["points"] > 40
    ended: dict[str, str] = found["ended"]
    return ended


def test_train__killed_at_some_points_and_resumed(tmp_path: Path, clr_cache: Path) -> None:
    points = [str(random.Random(0).randrange(10**6)) for _ in range(4)]
    ended = killed("simclr", points, [], folder=tmp_path, cache=clr_cache)
    assert set(ended.values()) == {"equal"}, ended


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("simclr", []),
        ("simclr", ["train.micro_batch_size=12"]),
        ("byol", []),
        ("autodecoder", []),
        ("prob-simclr", ["method.loss=mc-infonce"]),
    ],
)
def test_train__killed_at_every_point_and_resumed(
    method: str, settings: list[str], tmp_path: Path, clr_cache: Path
) -> None:
    ended = killed(method, ["all"], settings, folder=tmp_path, cache=clr_cache)
    assert set(ended.values()) == {"equal"}, {point: end for point, end in ended.items() if end != "equal"}

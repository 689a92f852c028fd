"""`clr pretrain` killed at random times, again and again, resumed each time, ends as if it had never been killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from clr_process import TINY, Clr, clr_command, clr_environment
from kill_points import compare

from contrastive_cli.embeddings.files import read_embeddings

KILLS = 20
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")]


def killed_after(seconds: float, arguments: Sequence[str], *, cwd: Path, cache: Path) -> bool:
    """Run `clr` in a process group of its own and kill it; False if it had ended well before."""
    with subprocess.Popen(
        clr_command(arguments),
        cwd=cwd,
        env=clr_environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True
        assert process.returncode == 0, errors
        return False


@pytest.mark.parametrize(
    "settings",
    [
        ["--method", "simclr"],
        ["--method", "simclr", "--micro-batch-size", "48"],
        ["--method", "byol"],
        ["--method", "autodecoder"],
    ],
    ids=["simclr", "micro-batches", "byol", "autodecoder"],
)
def test_pretrain__killed_at_random_times(settings: list[str], clr: Clr, clr_cache: Path, tmp_path: Path) -> None:
    tiny = TINY[4:] if "autodecoder" in settings else TINY  # it has no encoder whose width could be set
    command = ["pretrain", *settings, *tiny, "--epochs", "3", "--set", "train.save_every=1e-9"]
    started = time.monotonic()
    assert clr(*command, "--out", "whole", cwd=tmp_path).code == 0
    duration = time.monotonic() - started
    assert clr("embed", "--run", "whole", "--out", "whole.npz", cwd=tmp_path).code == 0
    draws = random.Random(0)
    kills = runs = 0
    while kills < KILLS:
        name, runs = f"run{runs}", runs + 1
        run = tmp_path / name
        while True:
            begins = not (run / "manifest.json").exists()
            arguments = [*command, "--out", name, "--overwrite"] if begins else ["pretrain", "--resume", name]
            if not killed_after(draws.uniform(0, duration), arguments, cwd=tmp_path, cache=clr_cache):
                break
            kills += 1
        assert compare(tmp_path / "whole", run) == "equal"
        assert clr("embed", "--run", name, "--out", f"{name}.npz", cwd=tmp_path).code == 0
        one, two = (read_embeddings(tmp_path / f"{file}.npz").vectors for file in ("whole", name))
        assert np.array_equal(one, two)

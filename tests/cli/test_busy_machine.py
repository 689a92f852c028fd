"""`clr pretrain` while something else computes, and where single steps take long: time, signals, and what is said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clr_process import Clr, clr_command, clr_environment

SLIM = ["--set", "encoder.width=4", "--set", "encoder.embedding_dim=16", "--set", "dataset.size=16", "--device", "cpu"]
BURN = "import time\nend = time.time() + {seconds}\nwhile time.time() < end:\n    sum(range(10000))\n"
# Steps of some ten seconds: the whole of the digits in one batch, enlarged.
SLOW = ["--set", "dataset.size=80", "--batch-size", "700", "--device", "cpu", "--encoder", "resnet18"]


@pytest.fixture
def busy() -> Iterator[None]:
    """Processes that want every core, from a while after the start on."""
    burning = [subprocess.Popen([sys.executable, "-c", BURN.format(seconds=60)]) for _ in range(4)]
    yield
    for process in burning:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_pretrain__a_budget_is_kept_while_something_else_computes(clr: Clr, tmp_path: Path, busy: None) -> None:
    started = time.monotonic()
    result = clr("pretrain", *SLIM, "--budget", "40s", "--out", "run", cwd=tmp_path)
    seconds = time.monotonic() - started
    assert result.code == 0, result.err
    assert 36 <= seconds <= 44
    assert "of 40 s" in result.err
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["plan"]


@pytest.mark.slow  # steps of some ten seconds
def test_pretrain__a_signal_ends_a_slow_step_with_everything_saved(clr: Clr, clr_cache: Path, tmp_path: Path) -> None:
    options = [*SLOW, "--epochs", "100", "--set", "train.evaluations=0", "--out", "run"]
    command = clr_command(["pretrain", *options])
    process = subprocess.Popen(command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.PIPE, text=True)
    wait_for_lines(tmp_path / "run", process)
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 9  # five, and what it takes to notice on a machine with other things to do
    assert process.returncode == 143, err
    assert "clr pretrain --resume run" in err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    assert manifest["status"] == "interrupted"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert manifest["step"] in (lines[-1]["step"], lines[-1]["step"] - 1)
    assert manifest["step"] >= 1


def wait_for_lines(run: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        file = run / "metrics.jsonl"
        if file.exists() and file.read_bytes().count(b"\n") >= 2:
            time.sleep(0.5)  # into the next step
            return
        time.sleep(0.05)
    raise AssertionError("no step was done")

"""Runs that several processes make, started as a user would, and what they leave."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PIECES = ["--batch-size", "96", "--micro-batch-size", "16", "--set", "train.reduction=ordered"]
SHORT = ["--set", "dataset.size=8", "--set", "encoder.width=4", "--set", "encoder.embedding_dim=32", "--device", "cpu"]
SHORT += ["--precision", "fp32", *PIECES, "--set", "train.evaluations=1"]
PATIENCE = 500.0  # on a busy machine


def torchrun(processes: int, *arguments: str, restarts: int = 0) -> list[str]:
    """`torchrun ... -m contrastive_cli ARGUMENTS`."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    return [sys.executable, *launcher, "-m", "contrastive_cli", *arguments]


def state_of(run: Path) -> dict[str, Any]:
    """Everything that the last checkpoint goes on from, but the seconds."""
    manifest = json.loads((run / "manifest.json").read_text())
    last = max((entry["step"], key) for key, entry in manifest["artifacts"].items() if entry["kind"] == "checkpoint")[1]
    state: dict[str, Any] = torch.load(run / last, weights_only=True)
    return {key: value for key, value in state.items() if key not in ("seconds", "metrics_bytes", "config")}


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Bit for bit."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            assert_same(value, theirs[key], f"{where}/{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}/{number}")
    elif isinstance(ours, Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


def losses_of(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["train/loss"]) for line in lines]


def wait_for_step(run: Path, step: int) -> None:
    """Until a checkpoint of that step or a later one is there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        steps = [int(file.stem.removeprefix("step-")) for file in run.glob("checkpoints/step-*.pt")]
        if max(steps, default=0) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint of step {step}")


def workers_of(launcher: int) -> dict[int, int]:
    """Process ids of the processes that a launcher has started, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        rank = next((variable[5:] for variable in variables if variable.startswith(b"RANK=")), None)
        if parent == launcher and rank is not None:
            found[int(rank)] = int(folder.name)
    return found

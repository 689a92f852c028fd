"""The training loop's own state, and everything that a checkpoint holds."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contrastive_cli.core.errors import TrainingError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.runs import Run
from contrastive_cli.engine.train import StepRecord
from contrastive_cli.services.metrics import last_value
from contrastive_cli.services.training.setup import TrainingSetup

COLLAPSED_SPREAD = 1e-3
LOWER_RATE = "lower --lr, or pass --precision fp32; the last good checkpoint is kept"


@dataclass(slots=True)
class LoopState:
    """The loop's own state, all of it saved in every checkpoint."""

    step: int = 0
    seconds: float = 0.0
    metrics_bytes: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(()))
    loss_count: int = 0

    def add(self, record: StepRecord, *, seconds: float) -> None:
        """A step is done, and the training has taken so many seconds."""
        self.step, self.seconds = record.step, seconds
        self.loss_sum = self.loss_sum + record.loss.float()
        self.loss_count += 1


def checkpoint_state(setup: TrainingSetup, state: LoopState) -> dict[str, Any]:
    """Plain values and tensors, from which `restore` goes on bit by bit."""
    return {
        "schema": 1,
        "config": setup.config.model_copy(update={"device": setup.recorded_device}).model_dump(mode="json"),
        "step": state.step,
        "seconds": state.seconds,
        "metrics_bytes": state.metrics_bytes,
        "loss_sum": state.loss_sum.cpu(),
        "loss_count": state.loss_count,
        "method": setup.method.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
    }


def require_finite_weights(weights: Mapping[str, Tensor], *, step: int) -> None:
    """Ask that a state can be gone on from, which a finite loss does not say: the step after it may have failed.

    Raises:
        TrainingError: If a weight is no number.
    """
    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise TrainingError(f"the weights {name} are not finite after step {step}", hint=LOWER_RATE)


def restore(setup: TrainingSetup, saved: Mapping[str, Any]) -> LoopState:
    """Put a saved state into method, optimizer and torch's generator; returns the loop's own.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError, AttributeError: If it is not the state of such a setup.
    """
    setup.method.load_state_dict(saved["method"])
    setup.optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["torch_rng"])
    state = LoopState(
        step=operator.index(saved["step"]),
        seconds=float(saved["seconds"]),
        metrics_bytes=operator.index(saved["metrics_bytes"]),
        loss_sum=saved["loss_sum"].to(setup.device),
        loss_count=operator.index(saved["loss_count"]),
    )
    if min(state.step, state.metrics_bytes, state.loss_count) < 0:
        raise ValueError("a count is negative")
    return state


def metrics_line(setup: TrainingSetup, state: LoopState, record: StepRecord, rate: float) -> dict[str, float]:
    """The record of the steps since the last one, whose losses are averaged and forgotten; `rate` is in views/s."""
    loss = state.loss_sum / state.loss_count
    require_finite(loss, record)
    state.loss_sum, state.loss_count = torch.zeros_like(state.loss_sum), 0
    return {
        "step": record.step,
        "epoch": round(record.step / setup.steps_per_epoch, 4),
        "seconds": round(state.seconds, 3),
        "train/loss": loss.item(),
        **{f"train/{name}": value.item() for name, value in record.metrics.items()},
        "train/lr": record.learning_rate,
        "views_per_second": round(rate, 1),
    }


def cut_metrics(path: Path, size: int) -> None:
    """Leave the lines that a checkpoint counts; a line that was cut off by hand or by the disk goes too.

    The file is made anew unless it is whole: appending would write into whatever a link, hard or not, shares it with.
    """
    content = path.read_bytes() if path.is_file() else b""
    kept = content[: content[:size].rfind(b"\n") + 1]
    if kept != content or path.is_symlink() or not path.is_file() or path.stat().st_nlink > 1:
        write_atomically(path, kept)


def missing_metrics(run: Run, state: LoopState) -> list[str]:
    """A warning if `metrics.jsonl` is shorter than it was when the checkpoint was saved, which no kill brings about."""
    path = run.path / "metrics.jsonl"
    missing = state.metrics_bytes - (path.stat().st_size if path.is_file() else 0)
    if missing <= 0:
        return []
    return [f"warning: {path} is {missing} bytes shorter than when the checkpoint was saved; its last lines are lost"]


def refuse_collapsed(run: Run) -> None:
    """Look at the last measure of the embedding of a training that has come to its end.

    Raises:
        TrainingError: If all images have one and the same embedding, or one that is no number.
    """
    spread = last_value(run, "online/spread")
    if spread is None:
        return
    if math.isnan(spread):
        raise TrainingError(
            f"the embedding of {run.path} is not finite after the last step",
            hint=LOWER_RATE,
        )
    if spread < COLLAPSED_SPREAD:
        raise TrainingError(
            f"the embedding of {run.path} has collapsed: all images lie in one place (spread {spread:.1g})",
            hint="lower --lr or raise the batch size; the checkpoints are kept",
        )


def require_finite(loss: Tensor, record: StepRecord) -> None:
    """Raise TrainingError unless the loss is a number."""
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            f"the loss is {loss.item()} at step {record.step} (learning rate {record.learning_rate:.3g})",
            hint=LOWER_RATE,
        )

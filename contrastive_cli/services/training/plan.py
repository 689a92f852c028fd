"""How many steps a training is to have: from epochs, from a plan, or from a few timed steps."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any

import torch

from contrastive_cli.core.types import Say, silent
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.engine.distributed import agree, num_processes
from contrastive_cli.engine.optim import build_optimizer
from contrastive_cli.engine.schedule import Pace
from contrastive_cli.services.training.budget import BudgetClock
from contrastive_cli.services.training.setup import TrainingSetup
from contrastive_cli.services.training.steps import train_steps

TIMED_STEPS = 6
WARM_UP_STEPS = 3
SMALL_BATCHES = (4, 16)  # are timed first: a whole batch may take minutes
TIMING_SECONDS = 2.0  # for the steps of whole batches
TIMING_SHARE = 0.05  # of a budget
SPACE_LOOKS = 3.0  # what measuring the space costs at the end of a training, in looks at its embedding
IDENTITY_LOOKS = 9.0  # what comparing faces costs at the end of a training, in looks at its embedding


def budget_clock(setup: TrainingSetup, *, began: float, spent: float = 0.0) -> BudgetClock | None:
    """The clock that a training has to keep, if it has a budget and no plan for it yet."""
    config = setup.config
    if config.train.budget is None or config.train.plan:
        return None
    compares = find_dataset(config.dataset.name).identity_split is not None and hasattr(setup.method, "projector")
    closing = (IDENTITY_LOOKS if compares else 0.0) + (SPACE_LOOKS if hasattr(setup.method, "encoder") else 0.0)
    return BudgetClock(seconds=config.train.budget, started=began, spent=spent, closing=closing)


def plan_pace(setup: TrainingSetup, *, clock: BudgetClock | None, say: Say = silent) -> Pace:
    """The steps of a new training; where a clock will correct them, they are a guess from a few timed ones.

    Raises:
        TrainingError: If memory runs out.
    """
    if setup.config.train.plan:
        return Pace(setup.config.train.plan)
    if clock is None:
        return Pace.of(setup.steps_of(setup.config.train.epochs or 0.0))
    say("timing a few steps to fit the budget")
    seconds = time_steps(setup, limit=min(TIMING_SECONDS, TIMING_SHARE * clock.seconds))
    left = clock.left(time.monotonic())
    return Pace.of(agree(max(1, int(left / seconds))))


def time_steps(setup: TrainingSetup, *, limit: float = TIMING_SECONDS) -> float:
    """Seconds of one optimizer step, timed on a copy that is thrown away, and no longer than about `limit`.

    Where steps are slow they are timed with a few images, as parts of a batch.
    """
    return timed_steps(setup, limit=limit)[0]


def timed_steps(setup: TrainingSetup, *, limit: float = TIMING_SECONDS) -> tuple[float, int]:
    """As `time_steps`, and how many images the largest timed step had."""
    small, more = (min(part * num_processes(), setup.config.batch_size) for part in SMALL_BATCHES)
    least = _timed(setup, batch_size=small, warm_up=1, count=1, limit=limit)
    if more > small:
        longer = _timed(setup, batch_size=more, warm_up=0, count=1, limit=limit)
        if longer < limit / 4:  # as much may have gone into preparing kernels for this size
            longer = min(longer, _timed(setup, batch_size=more, warm_up=0, count=1, limit=limit))
        longer = max(least, longer)
        whole = longer + (longer - least) / (more - small) * (setup.config.batch_size - more)
        if (WARM_UP_STEPS + 1) * whole > limit:
            return whole, more
    batch_size = setup.config.batch_size
    return _timed(setup, batch_size=batch_size, warm_up=WARM_UP_STEPS, count=TIMED_STEPS, limit=limit), batch_size


def _timed(setup: TrainingSetup, *, batch_size: int, warm_up: int, count: int, limit: float) -> float:
    method = copy.deepcopy(setup.method)
    rate, precision = setup.config.peak_learning_rate, setup.precision
    changes: dict[str, Any] = {"batch_size": batch_size, "images_per_class": None, "freeze_epochs": 0.0}
    if num_processes() > 1 and batch_size < setup.config.batch_size:
        changes["micro_batch_size"] = max(2, batch_size // num_processes())
    train = setup.config.train.model_copy(update=changes)
    copied = replace(
        setup,
        method=method,
        optimizer=build_optimizer(method, setup.config.optim, lr=rate, precision=precision),
        config=setup.config.model_copy(update={"train": train}),
    )
    times = []
    devices = [setup.device] if setup.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # timing must not move what is drawn later
        began = started = time.perf_counter()
        for _ in train_steps(copied, first_step=0, total_steps=warm_up + count):
            if setup.device.type != "cpu":
                torch.accelerator.synchronize(setup.device)
            times.append(time.perf_counter() - started)
            started = time.perf_counter()
            if agree(len(times) > warm_up and started - began > limit):
                break
    kept = sorted(times[warm_up:])
    return agree(kept[len(kept) // 2])

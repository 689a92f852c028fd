"""How many steps a training is to have, from epochs, a plan or a few timed steps; and `clr pretrain --plan`."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from contrastive_cli.core.types import Contrastive, CountProgress, Say, silent
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.engine.distributed import agree
from contrastive_cli.engine.optim import build_optimizer
from contrastive_cli.engine.schedule import Pace
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.training.budget import BudgetClock
from contrastive_cli.services.training.setup import TrainingSetup, set_up_training
from contrastive_cli.services.training.steps import train_steps

TIMED_STEPS = 6
WARM_UP_STEPS = 3
SMALL_BATCHES = (4, 16)  # are timed first: a whole batch may take minutes
TIMING_SECONDS = 2.0  # for the steps of whole batches
TIMING_SHARE = 0.05  # of a budget
IDENTITY_LOOKS = 9.0  # what comparing faces costs at the end of a training, in looks at its embedding


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a pretraining would do. Sizes in MB, times in seconds."""

    images: int
    classes: int
    bad_files: int
    fingerprint: str
    device: str
    precision: str
    encoder: str
    batch_size: int
    parameters: int
    embedding_dim: int
    steps: int
    steps_per_epoch: int
    peak_learning_rate: float
    negatives_per_anchor: int
    seconds_per_step: float
    views_per_second: float
    training_seconds: float
    dataset_mb: float
    checkpoint_mb: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan_training(config: PretrainConfig, *, progress: CountProgress | None = None, say: Say = silent) -> Plan:
    """Resolve, open the images, time a few steps; only the decoded-image cache is written."""
    setup = set_up_training(config, progress=progress, say=say)
    with memory_errors(setup.device, batch_size=setup.config.batch_size):
        say("timing a few steps")
        seconds = time_steps(setup)
    state_bytes = sum(tensor.nbytes for tensor in setup.method.state_dict().values())
    parameters = sum(parameter.numel() for parameter in setup.method.parameters())
    num_views = setup.method.num_views
    views = setup.config.batch_size * num_views
    negatives = views - num_views if isinstance(setup.method, Contrastive) else 0
    steps = _steps(setup, seconds=seconds, left=setup.config.train.budget or 0.0)
    return Plan(
        images=setup.images.num_samples,
        classes=len(setup.images.classes),
        bad_files=len(setup.images.bad_files),
        fingerprint=setup.images.fingerprint,
        device=str(setup.device),
        precision=setup.precision,
        encoder=config.encoder.name,
        batch_size=setup.config.batch_size,
        parameters=parameters,
        embedding_dim=setup.method.embedding_dim,
        steps=steps,
        steps_per_epoch=setup.steps_per_epoch,
        peak_learning_rate=setup.config.peak_learning_rate,
        negatives_per_anchor=negatives,
        seconds_per_step=round(seconds, 4),
        views_per_second=round(views / seconds, 1),
        training_seconds=round(steps * seconds, 1),
        dataset_mb=round(setup.images.images.nbytes / 1e6, 1),
        checkpoint_mb=round((state_bytes + parameters * 4 * 2) / 1e6, 1),
    )


def budget_clock(setup: TrainingSetup, *, began: float, spent: float = 0.0) -> BudgetClock | None:
    """The clock that a training has to keep, if it has a budget and no plan for it yet."""
    config = setup.config
    if config.train.budget is None or config.train.plan:
        return None
    compares = find_dataset(config.dataset.name).identity_split is not None and hasattr(setup.method, "projector")
    closing = IDENTITY_LOOKS if compares else 0.0
    return BudgetClock(seconds=config.train.budget, started=began, spent=spent, closing=closing)


def plan_pace(setup: TrainingSetup, *, clock: BudgetClock | None, say: Say = silent) -> Pace:
    """The steps of a new training; where a clock will correct them, they are a guess from a few timed ones.

    Raises:
        TrainingError: If memory runs out.
    """
    if setup.config.train.plan:
        return Pace(setup.config.train.plan)
    if clock is None:
        return Pace.of(_steps(setup, seconds=0.0, left=0.0))
    say("timing a few steps to fit the budget")
    seconds = time_steps(setup, limit=min(TIMING_SECONDS, TIMING_SHARE * clock.seconds))
    return Pace.of(agree(_steps(setup, seconds=seconds, left=clock.left(time.monotonic()))))


def _steps(setup: TrainingSetup, *, seconds: float, left: float) -> int:
    train = setup.config.train
    if train.plan:
        return train.plan[-1][1]
    return max(1, int(left / seconds)) if train.epochs is None else setup.steps_of(train.epochs)


def time_steps(setup: TrainingSetup, *, limit: float = TIMING_SECONDS) -> float:
    """Seconds of one optimizer step, timed on a copy that is thrown away, and no longer than about `limit`.

    Where steps are slow they are timed with a few images, as parts of a batch.
    """
    small, more = (min(part, setup.config.batch_size) for part in SMALL_BATCHES)
    least = _timed(setup, batch_size=small, warm_up=1, count=1, limit=limit)
    if more > small:
        longer = max(least, _timed(setup, batch_size=more, warm_up=0, count=1, limit=limit))
        whole = longer + (longer - least) / (more - small) * (setup.config.batch_size - more)
        if (WARM_UP_STEPS + 1) * whole > limit:
            return whole
    return _timed(setup, batch_size=setup.config.batch_size, warm_up=WARM_UP_STEPS, count=TIMED_STEPS, limit=limit)


def _timed(setup: TrainingSetup, *, batch_size: int, warm_up: int, count: int, limit: float) -> float:
    method = copy.deepcopy(setup.method)
    rate, precision = setup.config.peak_learning_rate, setup.precision
    train = setup.config.train.model_copy(update={"batch_size": batch_size, "images_per_class": None})
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
            if len(times) > warm_up and started - began > limit:
                break
    kept = sorted(times[warm_up:])
    return kept[len(kept) // 2]

"""`clr pretrain --plan`: everything resolved, two steps timed, no run written."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from contrastive_cli.core.types import Contrastive, CountProgress
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.engine.optim import build_optimizer
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.training.setup import TrainingSetup, online_probe, set_up_training
from contrastive_cli.services.training.steps import train_steps

TIMED_STEPS = 6
WARM_UP_STEPS = 3
MIN_TRAINING_SHARE = 0.8  # of a budget; a slow evaluation may overrun a short one


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


def plan_training(config: PretrainConfig, *, progress: CountProgress | None = None) -> Plan:
    """Resolve, open the images, time a few steps; only the decoded-image cache is written."""
    setup = set_up_training(config, progress=progress)
    with memory_errors(setup.device, batch_size=setup.config.batch_size):
        steps, timed = plan_steps(setup)
        seconds = timed or time_steps(setup)
    state_bytes = sum(tensor.nbytes for tensor in setup.method.state_dict().values())
    parameters = sum(parameter.numel() for parameter in setup.method.parameters())
    num_views = setup.method.num_views
    views = setup.config.batch_size * num_views
    negatives = views - num_views if isinstance(setup.method, Contrastive) else 0
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


def plan_steps(setup: TrainingSetup) -> tuple[int, float | None]:
    """The number of optimizer steps, and the seconds of a step where they were timed for a budget.

    Raises:
        TrainingError: If memory runs out.
    """
    config = setup.config
    if config.train.epochs is not None:
        return setup.steps_of(config.train.epochs), None
    assert config.train.budget is not None, "the configuration was resolved"
    seconds = time_steps(setup)
    evaluation = 0.0
    if config.train.evaluations:
        online = online_probe(setup)
        for _ in range(2):  # the first one warms up
            started = time.perf_counter()
            online.measure(setup.method, precision=setup.precision)
            evaluation = time.perf_counter() - started
    left = config.train.budget - evaluation * config.train.evaluations
    torch.manual_seed(config.seed)  # timing must not move what is drawn later
    return max(1, int(max(left, MIN_TRAINING_SHARE * config.train.budget) / seconds)), seconds


def time_steps(setup: TrainingSetup) -> float:
    """Seconds of one optimizer step, timed on a copy that is thrown away."""
    method = copy.deepcopy(setup.method)
    rate, precision = setup.config.peak_learning_rate, setup.precision
    optimizer = build_optimizer(method, setup.config.optim, lr=rate, precision=precision)
    copied = replace(setup, method=method, optimizer=optimizer)
    times = []
    started = time.perf_counter()
    for _ in train_steps(copied, first_step=0, total_steps=WARM_UP_STEPS + TIMED_STEPS):
        if setup.device.type != "cpu":
            torch.accelerator.synchronize(setup.device)
        times.append(time.perf_counter() - started)
        started = time.perf_counter()
    return sorted(times[WARM_UP_STEPS:])[TIMED_STEPS // 2]

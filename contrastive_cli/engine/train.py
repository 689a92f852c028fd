"""The training loop: a generator that yields a record after every optimizer step. No callbacks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from contrastive_cli.core.choices import Reduction
from contrastive_cli.core.types import AfterStep, Batch, Method, Progress
from contrastive_cli.engine.accumulate import Autocast, backward


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """What one optimizer step did; tensors stay on the device until a record is written.

    Attributes:
        step: Steps done so far, counted from one.
        loss: Detached scalar.
        metrics: Detached scalars of the method.
        learning_rate: The rate of this step.
    """

    step: int
    loss: Tensor
    metrics: Mapping[str, Tensor]
    learning_rate: float


def train(
    method: Method,
    *,
    batch_part: Callable[[int, slice], Batch],
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
    steps: Iterable[int],
    progress_at: Callable[[int], Progress],
    autocast: Autocast,
    micro_batch_size: int | None = None,
    clip_gradient: float | None = None,
    reduction: Reduction = "fast",
) -> Iterator[StepRecord]:
    """Train `method` for `steps`, each a pure function of the state before it and of the step's number.

    Args:
        method: What is trained.
        batch_part: Makes a slice of the batch of a step, the same whenever it is asked.
        batch_size: Samples of a batch.
        optimizer: Over the method's parameters; all groups share the learning rate.
        learning_rate: The rate of a step.
        steps: The steps to do; asked for one by one, so that their end may move.
        progress_at: Where the training stands at a step.
        autocast: Returns a fresh autocast context.
        micro_batch_size: See `engine.accumulate`.
        clip_gradient: Largest norm of the gradient; None for no limit.
        reduction: How several processes add their gradients, see `engine.gradients`.
    """
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    moving = method if isinstance(method, AfterStep) else None
    for step in steps:
        progress = progress_at(step)
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        output = backward(
            method,
            functools.partial(batch_part, step),
            progress,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            autocast=autocast,
            reduction=reduction,
        )
        if clip_gradient is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip_gradient)
        optimizer.step()
        if moving is not None:
            moving.after_step(progress)
        yield StepRecord(step=step + 1, loss=output.loss, metrics=output.metrics, learning_rate=rate)

"""Gradients of one large batch from small ones, with all negatives kept.

A contrastive loss looks at every pair of the batch, so averaging the losses of micro-batches is another loss. Here the
projections of all micro-batches are computed without a graph, the loss gives its gradient with respect to all of them,
and a second pass through the same views carries that gradient into the weights (Gao et al., "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup", RepL4NLP 2021). Exact up to batch norm, whose statistics stay those of
a micro-batch; running statistics are updated once, in the second pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from contrastive_cli.core.types import Batch, Contrastive, LossOutput, Progress


def backward(
    method: Any, batch: Batch, progress: Progress, *, micro_batch_size: int | None, autocast: Any
) -> LossOutput:
    """Add the gradient of the batch's loss to the weights; returns the detached loss and metrics.

    Args:
        method: A `Method`; one that is also `Contrastive` keeps all negatives, others average over micro-batches.
        batch: The whole batch.
        progress: Handed to the method.
        micro_batch_size: Images per pass; None or at least the batch for a single pass.
        autocast: A function that returns a fresh autocast context.
    """
    num_images = batch.indices.shape[0]
    if micro_batch_size is None or micro_batch_size >= num_images:
        with autocast():
            output: LossOutput = method.training_loss(batch, progress)
        output.loss.backward()  # type: ignore[no-untyped-call]
        return LossOutput(loss=output.loss.detach(), metrics=output.metrics)
    pieces = [slice(start, start + micro_batch_size) for start in range(0, num_images, micro_batch_size)]
    if isinstance(method, Contrastive):
        return _all_negatives(method, batch, pieces, autocast=autocast)
    return _plain(method, batch, progress, pieces, autocast=autocast)


def _all_negatives(method: Any, batch: Batch, pieces: list[slice], *, autocast: Any) -> LossOutput:
    with torch.no_grad(), _frozen_running_statistics(method), autocast():
        projections = torch.cat([method.project(batch.views[:, piece]) for piece in pieces], dim=1)  # [V, B, P]
    projections.requires_grad_()
    with autocast():
        output: LossOutput = method.contrast(projections, batch.labels)
    output.loss.backward()  # type: ignore[no-untyped-call]
    gradient = projections.grad
    assert gradient is not None
    for piece in pieces:
        with autocast():
            again = method.project(batch.views[:, piece])
        again.backward(gradient[:, piece])
    return LossOutput(loss=output.loss.detach(), metrics=output.metrics)


def _plain(method: Any, batch: Batch, progress: Progress, pieces: list[slice], *, autocast: Any) -> LossOutput:
    total = batch.indices.new_zeros((), dtype=torch.float32)
    metrics: dict[str, Tensor] = {}
    num_images = batch.indices.shape[0]
    for piece in pieces:
        part = Batch(
            views=batch.views[:, piece],
            indices=batch.indices[piece],
            labels=None if batch.labels is None else batch.labels[piece],
        )
        weight = part.indices.shape[0] / num_images
        with autocast():
            output: LossOutput = method.training_loss(part, progress)
        (output.loss * weight).backward()  # type: ignore[no-untyped-call]
        total = total + output.loss.detach() * weight
        for name, value in output.metrics.items():
            metrics[name] = metrics.get(name, torch.zeros_like(value)) + value * weight
    return LossOutput(loss=total, metrics=metrics)


@contextlib.contextmanager
def _frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    norms = [layer for layer in module.modules() if getattr(layer, "track_running_stats", False)]
    for layer in norms:
        layer.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in norms:
            layer.track_running_stats = True  # type: ignore[assignment]

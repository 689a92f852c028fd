"""Gradients of one large batch from small ones, with all negatives kept.

A contrastive loss looks at every pair of the batch, so averaging the losses of micro-batches is another loss. Here the
projections of all micro-batches are computed without a graph, the loss gives its gradient with respect to all of them,
and a second pass through the same views carries that gradient into the weights (Gao et al., "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup", RepL4NLP 2021). Exact up to batch norm, whose statistics stay those of
a micro-batch; running statistics are updated once, in the second pass.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import torch

from contrastive_cli.core.types import Batch, Contrastive, Drawing, LossOutput, Method, Progress

Autocast = Callable[[], contextlib.AbstractContextManager[object]]


def backward(
    method: Method,
    part_of: Callable[[slice], Batch],
    progress: Progress,
    *,
    batch_size: int,
    micro_batch_size: int | None,
    autocast: Autocast,
) -> LossOutput:
    """Add the gradient of the batch's loss to the weights; returns the detached loss and metrics.

    Args:
        method: A `Method`; one that is also `Contrastive` keeps all negatives, others average over micro-batches.
        part_of: Makes the samples of a slice of the batch. It is asked twice for the slices of a contrastive method
            and must give the same views, so that those of the whole batch are never in memory.
        progress: Handed to the method.
        batch_size: Samples of the whole batch.
        micro_batch_size: Samples per pass, about: passes are cut as equal as can be, and none has a single sample,
            of which batch norm could not tell anything; None or at least the batch for a single pass.
        autocast: A function that returns a fresh autocast context.
    """
    pieces = _pieces(batch_size, micro_batch_size or batch_size)
    if len(pieces) > 1 and isinstance(method, Contrastive):
        frozen = _frozen_running_statistics(method)
        return _all_negatives(method, part_of, pieces, frozen=frozen, autocast=autocast)
    return _plain(method, part_of, pieces, progress, autocast=autocast)


def _pieces(batch_size: int, micro_batch_size: int) -> list[slice]:
    number = max(1, min(-(-batch_size // micro_batch_size), batch_size // 2))
    bounds = [batch_size * piece // number for piece in range(number + 1)]
    return list(itertools.starmap(slice, itertools.pairwise(bounds)))


def _all_negatives(
    method: Contrastive,
    part_of: Callable[[slice], Batch],
    pieces: list[slice],
    *,
    frozen: contextlib.AbstractContextManager[None],
    autocast: Autocast,
) -> LossOutput:
    projected, labeled = [], []
    with torch.no_grad(), frozen:
        for piece in pieces:
            part = part_of(piece)
            with autocast():
                projected.append(method.project(part.views))
            labeled.append(part.labels)
    projections = torch.cat(projected, dim=1).requires_grad_()  # [V, B, P]
    labels = None if labeled[0] is None else torch.cat([labels for labels in labeled if labels is not None])
    with autocast():
        if isinstance(method, Drawing):
            seed = None if part.noise is None else part.noise.step_seed
            output = method.contrast_drawing(projections, labels, seed=seed)
        else:
            output = method.contrast(projections, labels)
    output.loss.backward()
    gradient = projections.grad
    assert gradient is not None
    for piece in pieces:
        part = part_of(piece)
        with autocast():
            again = method.project(part.views)
        again.backward(gradient[:, piece])
    return LossOutput(loss=output.loss.detach(), metrics=output.metrics)


def _plain(
    method: Method, part_of: Callable[[slice], Batch], pieces: list[slice], progress: Progress, *, autocast: Autocast
) -> LossOutput:
    outputs, weights = [], []
    for piece in pieces:
        part = part_of(piece)
        weight = (piece.stop - piece.start) / pieces[-1].stop
        with autocast():
            output = method.training_loss(part, progress)
        (output.loss * weight if weight < 1 else output.loss).backward()
        outputs.append(output)
        weights.append(weight)
    if len(outputs) == 1:
        return LossOutput(loss=outputs[0].loss.detach(), metrics=outputs[0].metrics)
    parts = list(zip(outputs, weights, strict=True))
    return LossOutput(
        loss=sum((output.loss.detach() * weight for output, weight in parts), start=torch.zeros(())),
        metrics={name: sum(output.metrics[name] * weight for output, weight in parts) for name in outputs[0].metrics},
    )


@contextlib.contextmanager
def _frozen_running_statistics(method: Method) -> Iterator[None]:
    norms = [layer for layer in method.modules() if getattr(layer, "track_running_stats", False)]
    for layer in norms:
        layer.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in norms:
            layer.track_running_stats = True  # type: ignore[assignment]

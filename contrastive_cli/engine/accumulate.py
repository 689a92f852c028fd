"""Gradients of one large batch from small ones, with all negatives kept.

A contrastive loss looks at every pair of the batch, so averaging the losses of micro-batches is another loss. Here the
projections of all micro-batches are computed without a graph, the loss gives its gradient with respect to all of them,
and a second pass through the same views carries that gradient into the weights (Gao et al., "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup", RepL4NLP 2021). Exact up to batch norm, whose statistics stay those of
a micro-batch; running statistics are updated once, in the second pass.

The micro-batch is also what several processes are dealt: their number says who computes which, and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from contrastive_cli.core.choices import Reduction
from contrastive_cli.core.types import Batch, Contrastive, Drawing, Leaving, LossOutput, Method, Progress
from contrastive_cli.engine.distributed import dealt, gather_pieces, num_processes
from contrastive_cli.engine.gradients import summed
from contrastive_cli.engine.running_statistics import frozen, in_order

Autocast = Callable[[], contextlib.AbstractContextManager[object]]


def backward(
    method: Method,
    part_of: Callable[[slice], Batch],
    progress: Progress,
    *,
    batch_size: int,
    micro_batch_size: int | None,
    autocast: Autocast,
    reduction: Reduction = "fast",
) -> LossOutput:
    """Add the gradient of the batch's loss to the weights; returns the detached loss and metrics.

    Several processes are dealt the micro-batches, of which there must be one for each at least. All of them end with
    the same gradient, loss, metrics and running statistics.

    Args:
        method: A `Method`; one that is also `Contrastive` keeps all negatives, others average over micro-batches.
        part_of: Makes the samples of a slice of the batch. It is asked twice for the slices of a contrastive method
            and must give the same views, so that those of the whole batch are never in memory.
        progress: Handed to the method.
        batch_size: Samples of the whole batch.
        micro_batch_size: Samples per pass, about: passes are cut as equal as can be, and none has a single sample,
            of which batch norm could not tell anything; None or at least the batch for a single pass.
        autocast: A function that returns a fresh autocast context.
        reduction: How several processes add their gradients, see `engine.gradients`.
    """
    pieces = cut_batch(batch_size, micro_batch_size)
    assert len(pieces) >= num_processes(), "the configuration was asked for enough pieces"
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    adding = functools.partial(_adding, method, trained, pieces=pieces, reduction=reduction)
    if len(pieces) > 1 and isinstance(method, Contrastive):
        return _all_negatives(method, part_of, pieces, adding=adding, autocast=autocast)
    return _plain(method, part_of, pieces, progress, adding=adding, autocast=autocast)


def cut_batch(batch_size: int, micro_batch_size: int | None) -> list[slice]:
    """The micro-batches of a batch."""
    number = max(1, min(-(-batch_size // (micro_batch_size or batch_size)), batch_size // 2))
    bounds = [batch_size * piece // number for piece in range(number + 1)]
    return list(itertools.starmap(slice, itertools.pairwise(bounds)))


Adding = Callable[[], contextlib.AbstractContextManager[Callable[[], None]]]


@contextlib.contextmanager
def _adding(
    method: Method, trained: list[torch.nn.Parameter], *, pieces: list[slice], reduction: Reduction
) -> Iterator[Callable[[], None]]:
    """While entered, the pieces that were dealt to this process are done, and what is yielded called after each."""
    leaving = method if num_processes() > 1 and isinstance(method, Leaving) else None
    left: list[tuple[Tensor, ...]] = []
    with (
        in_order(method, pieces=len(pieces), ordered=reduction == "ordered") as statistics_done,
        summed(trained, pieces=len(pieces), reduction=reduction) as gradient_done,
    ):

        def piece_done() -> None:
            statistics_done()
            if leaving is not None:
                left.append(leaving.give_left())
            gradient_done()

        yield piece_done
    if leaving is not None:
        lengths = [piece.stop - piece.start for piece in pieces]
        columns = [gather_pieces(column, lengths) for column in zip(*left, strict=True)]
        leaving.take_left(list(zip(*columns, strict=True)))


def _all_negatives(
    method: Contrastive,
    part_of: Callable[[slice], Batch],
    pieces: list[slice],
    *,
    adding: Adding,
    autocast: Autocast,
) -> LossOutput:
    own = [pieces[number] for number in dealt(len(pieces))]
    lengths = [piece.stop - piece.start for piece in pieces]
    projected, labeled = [], []
    with torch.no_grad(), frozen(method):  # type: ignore[arg-type]
        for piece in own:
            part = part_of(piece)
            with autocast():
                projected.append(method.project(part.views).transpose(0, 1))  # [b, V, P]
            labeled.append(part.labels)
    projections = torch.cat([each.transpose(0, 1) for each in gather_pieces(projected, lengths)], dim=1)
    projections = projections.requires_grad_()  # [V, B, P]
    known = [labels for labels in labeled if labels is not None]
    labels = torch.cat(gather_pieces(known, lengths)) if known else None
    with autocast():
        if isinstance(method, Drawing):
            seed = None if part.noise is None else part.noise.step_seed
            output = method.contrast_drawing(projections, labels, seed=seed)
        else:
            output = method.contrast(projections, labels)
    output.loss.backward()
    gradient = projections.grad
    assert gradient is not None
    with adding() as piece_done:
        for piece in own:
            part = part_of(piece)
            with autocast():
                again = method.project(part.views)
            again.backward(gradient[:, piece])
            piece_done()
    return LossOutput(loss=output.loss.detach(), metrics=output.metrics)


def _plain(
    method: Method,
    part_of: Callable[[slice], Batch],
    pieces: list[slice],
    progress: Progress,
    *,
    adding: Adding,
    autocast: Autocast,
) -> LossOutput:
    outputs = []
    weights = [(piece.stop - piece.start) / pieces[-1].stop for piece in pieces]
    with adding() as piece_done:
        for number in dealt(len(pieces)):
            part = part_of(pieces[number])
            weight = weights[number]
            with autocast():
                output = method.training_loss(part, progress)
            (output.loss * weight if weight < 1 else output.loss).backward()
            outputs.append(output)
            piece_done()
    if len(pieces) == 1:
        return LossOutput(loss=outputs[0].loss.detach(), metrics=outputs[0].metrics)
    losses, metrics = _of_all_pieces(outputs, count=len(pieces))
    return LossOutput(
        loss=sum((loss * weight for loss, weight in zip(losses, weights, strict=True)), start=torch.zeros(())),
        metrics={
            name: sum(value * weight for value, weight in zip(values, weights, strict=True))
            for name, values in metrics.items()
        },
    )


def _of_all_pieces(outputs: list[LossOutput], *, count: int) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
    """The loss and every metric of each piece."""
    scalars = [[output.loss.detach(), *output.metrics.values()] for output in outputs]
    if num_processes() > 1:
        device, kinds = scalars[0][0].device, [scalar.dtype for scalar in scalars[0]]
        rows = [torch.stack([scalar.to(device, torch.float64) for scalar in each])[None] for each in scalars]
        everywhere = [row[0] for row in gather_pieces(rows, [1] * count)]
        scalars = [[value.to(kind) for value, kind in zip(row, kinds, strict=True)] for row in everywhere]
    losses, *metrics = (list(values) for values in zip(*scalars, strict=True))
    return losses, dict(zip(outputs[0].metrics, metrics, strict=True))

"""The running statistics of batch norm while a batch goes through the model in pieces, here and in other processes.

Torch shows the mean and variance of a pass only when the momentum is 1, so the averages are moved here, in the order of
the pieces and in the arithmetic of torch's kernel for CPUs. A last bit may differ from a kernel that computes
otherwise; in ordered mode one process moves them here too, so that its bits are those of several on any processor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from contrastive_cli.core.types import Method
from contrastive_cli.engine.distributed import dealt, gather_pieces, num_processes
from contrastive_cli.engine.synchronized_norm import SynchronizedBatchNorm


@contextlib.contextmanager
def frozen(method: Method) -> Iterator[None]:
    """While entered, no running statistics move."""
    norms = [layer for layer in method.modules() if getattr(layer, "track_running_stats", False)]
    for layer in norms:
        layer.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in norms:
            layer.track_running_stats = True  # type: ignore[assignment]


@contextlib.contextmanager
def in_order(method: Method, *, pieces: int, ordered: bool = False) -> Iterator[Callable[[], None]]:
    """While entered, the pieces dealt to this process go through the model; at the end all have moved the statistics.

    Args:
        method: Whose layers have them.
        pieces: Of the whole batch.
        ordered: Whether one process is to do as several do.

    Yields:
        What to call after each piece.
    """
    norms: list[Any] = [layer for layer in method.modules() if isinstance(getattr(layer, "running_mean", None), Tensor)]
    if not norms or pieces == 1 or (num_processes() == 1 and not ordered):
        yield lambda: None
        return
    seen: list[tuple[int, bool, Tensor]] = []  # of the piece at hand: a layer, whether in float32, mean and variance
    own: list[Tensor] = []
    order: list[tuple[int, bool]] = []

    def piece_done() -> None:
        order[:] = [(number, in_full) for number, in_full, _ in seen]
        own.append(torch.cat([each for _, _, each in seen])[None] if seen else torch.zeros(1, 0))
        seen.clear()

    with _shown(norms, seen):
        yield piece_done
    assert len(own) == len(dealt(pieces)), "every piece is announced"
    for piece, statistics in enumerate(gather_pieces(own, [1] * pieces)):
        lengths = [2 * len(norms[number].running_mean) for number, _ in order]
        for (number, in_full), both in zip(order, statistics[0].split(lengths), strict=True):
            if piece % num_processes() and isinstance(norms[number], SynchronizedBatchNorm):
                continue  # they are those of the piece before
            mean, variance = both.chunk(2)
            _move(norms[number], mean, variance, in_full=in_full)


@contextlib.contextmanager
def _shown(norms: list[Any], seen: list[tuple[int, bool, Tensor]]) -> Iterator[None]:
    """While entered, every pass of a layer in training adds its statistics; in the end the layers are as before."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    before = [(layer.momentum, [getattr(layer, name).clone() for name in buffers]) for layer in norms]

    def recorder(number: int) -> Callable[[nn.Module, Any, Any], None]:
        def record(layer: nn.Module, inputs: Any, output: Any) -> None:
            if layer.training:
                both = torch.cat([layer.running_mean, layer.running_var])  # type: ignore[list-item]
                seen.append((number, inputs[0].dtype == torch.float32, both))

        return record

    hooks = [layer.register_forward_hook(recorder(number)) for number, layer in enumerate(norms)]
    for layer in norms:
        layer.momentum = 1.0
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, (momentum, values) in zip(norms, before, strict=True):
            layer.momentum = momentum
            for name, value in zip(buffers, values, strict=True):
                getattr(layer, name).copy_(value)


@torch.no_grad()
def _move(layer: Any, mean: Tensor, variance: Tensor, *, in_full: bool) -> None:
    layer.num_batches_tracked += 1
    share = 1.0 / int(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.copy_(share * mean + (1 - share) * layer.running_mean)
    kept = (1 - share) * layer.running_var
    if in_full:  # the kernel for float32 multiplies the variance in double precision
        moved = (torch.tensor(share, dtype=mean.dtype).double() * variance.double() + kept.double()).to(mean.dtype)
    else:
        moved = share * variance + kept
    layer.running_var.copy_(moved)

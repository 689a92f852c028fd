"""The gradient of a batch as the sum over its pieces, wherever they were computed.

`ordered` adds the gradients of the pieces in their order, on every process: bit for bit what one process gets that
computes them one after the other. It sends every gradient to every process. `fast` lets each process add up its own
pieces and sums the sums, in buckets: equal up to rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from contrastive_cli.core.choices import Reduction
from contrastive_cli.engine.distributed import dealt, exchange, num_processes, process_rank, sum_in_buckets


@contextlib.contextmanager
def summed(parameters: Sequence[Tensor], *, pieces: int, reduction: Reduction) -> Iterator[Callable[[], None]]:
    """While entered, this process adds the gradients of the pieces dealt to it; in the end all have the whole sum.

    What is there at the beginning is the same in all processes, such as the gradient of a temperature, and counts once.

    Args:
        parameters: Those that are trained.
        pieces: Of the whole batch.
        reduction: See the module.

    Yields:
        What to call after each piece's backward pass.
    """
    if num_processes() == 1:
        yield lambda: None
    elif reduction == "ordered":
        with _ordered(parameters, pieces=pieces) as piece_done:
            yield piece_done
    else:
        with _fast(parameters):
            yield lambda: None


@contextlib.contextmanager
def _fast(parameters: Sequence[Tensor]) -> Iterator[None]:
    if process_rank() > 0:
        for parameter in parameters:
            parameter.grad = None
    yield
    present = _present(parameters)
    for parameter, anywhere in zip(parameters, torch.stack(exchange(present)).amax(dim=0).tolist(), strict=True):
        if anywhere and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    sum_in_buckets([parameter.grad for parameter in parameters if parameter.grad is not None])


@contextlib.contextmanager
def _ordered(parameters: Sequence[Tensor], *, pieces: int) -> Iterator[Callable[[], None]]:
    totals = [parameter.grad for parameter in parameters]
    done = 0

    def add_a_round() -> None:
        nonlocal done
        done += 1
        _add_round(parameters, totals)

    for parameter in parameters:
        parameter.grad = None
    yield add_a_round
    assert done == len(dealt(pieces)), "every piece is announced"
    if done < -(-pieces // num_processes()):
        add_a_round()  # the others have one piece more
    for parameter, total in zip(parameters, totals, strict=True):
        parameter.grad = total


def _add_round(parameters: Sequence[Tensor], totals: list[Tensor | None]) -> None:
    """Add one piece's gradient of every process, by rank, and forget the own one."""
    flat = torch.cat([_gradient_or_zeros(parameter).reshape(-1) for parameter in parameters])
    lengths = [parameter.numel() for parameter in parameters]
    for present, gradients in zip(exchange(_present(parameters)), exchange(flat), strict=True):
        parts = gradients.split(lengths)
        for number, (parameter, there) in enumerate(zip(parameters, present.tolist(), strict=True)):
            if not there:
                continue
            gradient = parts[number].view(parameter.shape).to(parameter.dtype)
            if (total := totals[number]) is None:
                totals[number] = torch.empty_like(parameter, requires_grad=False).copy_(gradient)
            else:
                total.add_(gradient)
    for parameter in parameters:
        parameter.grad = None


def _present(parameters: Sequence[Tensor]) -> Tensor:
    """Which of them have a gradient: a method may leave some out, and an optimizer treats none unlike zeros."""
    present = [parameter.grad is not None for parameter in parameters]
    return torch.tensor(present, dtype=torch.uint8, device=parameters[0].device)


def _gradient_or_zeros(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad

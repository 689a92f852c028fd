"""What the processes of a pool do together in `test_meeting.py`."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed

from contrastive_cli.core.choices import Reduction
from contrastive_cli.engine import distributed
from contrastive_cli.engine.accumulate import cut_batch
from contrastive_cli.engine.gradients import summed


def decide() -> dict[str, Any]:
    """Decisions that every process would take otherwise."""
    rank = distributed.process_rank()
    made: list[int] = []

    def make() -> tuple[str, int]:
        made.append(distributed.num_processes())
        return ("from", rank)

    first = distributed.from_first(make)
    return {
        "agreed": distributed.agree(rank + 7),
        "largest": distributed.largest(rank),
        "all": distributed.of_all({"rank": rank}),
        "first": first,
        "made": made,
    }


def gather(pieces: int, dtype: str) -> list[Any]:
    """Piece k has k + 1 rows of the number k."""
    kind = getattr(torch, dtype)
    own = [torch.full((piece + 1, 2), piece, dtype=kind) for piece in distributed.dealt(pieces)]
    gathered = distributed.gather_pieces(own, [piece + 1 for piece in range(pieces)])
    return [tensor.double().numpy() for tensor in gathered]


def add(bucket_bytes: int) -> list[Any]:
    """Sums over the processes of tensors of several shapes and types."""
    distributed.BUCKET_BYTES = bucket_bytes
    rank = distributed.process_rank()
    tensors = [torch.full(shape, float(rank + 1)) for shape in ((3,), (2, 5), (1,), (4, 4, 2))]
    tensors.append(torch.full((3, 2, 4, 4), rank + 1.0).to(memory_format=torch.channels_last))
    tensors.append(torch.full((2,), rank + 1.0, dtype=torch.float64))
    distributed.sum_in_buckets(tensors)
    return [tensor.numpy() for tensor in tensors]


def dealt_pieces(batch_size: int, micro_batch_size: int) -> list[tuple[int, int]]:
    """What this process is to do of a batch."""
    pieces = cut_batch(batch_size, micro_batch_size)
    return [(pieces[number].start, pieces[number].stop) for number in distributed.dealt(len(pieces))]


def bytes_of_gradients(pieces: int, numbers: int, reduction: Reduction) -> dict[str, int]:
    """What goes into the collectives while the gradients of so many pieces are added, by what the collective does."""
    seen = {"gathered": 0, "added": 0}
    gather, add = torch.distributed.all_gather, torch.distributed.all_reduce

    def all_gather(received: list[torch.Tensor], sent: torch.Tensor) -> Any:
        seen["gathered"] += sum(each.nbytes for each in received)
        return gather(received, sent)

    def all_reduce(tensor: torch.Tensor, **options: Any) -> Any:
        seen["added"] += tensor.nbytes
        return add(tensor, **options)

    weight = torch.zeros(numbers, requires_grad=True)
    torch_distributed: Any = torch.distributed
    torch_distributed.all_gather, torch_distributed.all_reduce = all_gather, all_reduce
    try:
        with summed([weight], pieces=pieces, reduction=reduction) as piece_done:
            for piece in distributed.dealt(pieces):
                (weight * (piece + 1)).sum().backward()
                piece_done()
    finally:
        torch_distributed.all_gather, torch_distributed.all_reduce = gather, add
    assert weight.grad is not None
    assert (weight.grad == pieces * (pieces + 1) / 2).all()
    return seen

"""What the processes of a pool do together in `test_meeting.py`."""

from __future__ import annotations

from typing import Any

import torch

from contrastive_cli.engine import distributed
from contrastive_cli.engine.accumulate import cut_batch


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

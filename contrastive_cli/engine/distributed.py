"""The place where the processes of one training meet, by torch.distributed.

Whatever a process learns by itself - the time, a signal, how fast the processor is - may differ between processes, and
processes that decide differently wait for each other for ever. So every such decision goes through `agree`, and what
only one process may do, such as writing, through `from_first`. A single process meets nobody, and pays nothing.

No collective here takes part in a graph: the training makes its gradients itself (`engine.accumulate`), so that none is
multiplied or divided by the number of processes on its way.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_cli.core.errors import TrainingError, UsageError
from contrastive_cli.core.launched import Place, place
from contrastive_cli.engine.job_store import fresh_store

Value = TypeVar("Value")
LONGEST_WAIT = datetime.timedelta(hours=12)  # one machine may decode its images long after the others have
BUCKET_BYTES = 25 * 2**20
_alone = False
_place = Place()


class PeerLostError(TrainingError):
    """Another process of the training has gone; what it said, if anything, is the reason."""


def join() -> None:
    """Meet the other processes that a launcher has started; nothing without one.

    Raises:
        PeerLostError: If they do not come.
        UsageError: If a machine has fewer GPUs than processes.
    """
    found = place()
    if found.size == 1 or dist.is_initialized():
        return
    with _peer_errors():
        join_at(fresh_store(found), found)


def join_at(store: Any, found: Place) -> None:
    """As `join`, through a store that these processes alone know."""
    global _place
    has_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    if has_gpus and found.local_size > torch.cuda.device_count():
        has_gpus = False
    if has_gpus:
        torch.cuda.set_device(found.local_rank)
    if found.local_size == found.size and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody outside has to reach them
    backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=found.rank, world_size=found.size, timeout=LONGEST_WAIT)
    _place = found


def leave() -> None:
    """Be a single process again."""
    global _place
    if dist.is_initialized():
        dist.destroy_process_group()
    _place = Place()


def process_rank() -> int:
    """Which process this is, from 0; within `alone` 0."""
    return 0 if _alone else _place.rank


def num_processes() -> int:
    """How many processes there are; within `alone` 1."""
    return 1 if _alone else _place.size


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process, where there are several processes; any other device as it is.

    Raises:
        UsageError: If a machine has fewer GPUs than processes.
    """
    if num_processes() == 1 or device.type != "cuda":
        return device
    if _place.local_size > torch.cuda.device_count():
        raise UsageError(
            f"{_place.local_size} processes of this machine have {torch.cuda.device_count()} GPUs",
            hint="start one process for each GPU, or pass --device cpu",
        )
    return torch.device("cuda", _place.local_rank)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While entered, this process is a single one: for what the first one does while the others wait."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def agree(value: Value) -> Value:
    """The value that all processes go on with: that of the first one."""
    return from_first(lambda: value)


def from_first(make: Callable[[], Value]) -> Value:
    """What the first process makes, alone, while the others wait for it.

    Raises:
        PeerLostError: If the first one ended instead.
    """
    if num_processes() == 1:
        return make()
    box: list[Value | None] = [None]
    if process_rank() == 0:
        with alone():
            box = [make()]
    with _peer_errors():
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]  # type: ignore[return-value]


def largest(number: int) -> int:
    """The largest of the numbers that the processes have."""
    if num_processes() == 1:
        return number
    shared = torch.tensor([number], dtype=torch.int64)
    with _peer_errors():
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared)


def of_all(value: Value) -> list[Value]:
    """The plain value of every process, by rank."""
    if num_processes() == 1:
        return [value]
    values: list[Value | None] = [None] * num_processes()
    with _peer_errors():
        dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def dealt(count: int) -> range:
    """Which of `count` pieces of work this process does: every so many-th, so that all have done round r together."""
    return range(process_rank(), count, num_processes())


def gather_pieces(own: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
    """The tensors of all pieces, in the order of the pieces, from the processes that they were dealt to.

    Bytes travel as they are, so any type may.

    Args:
        own: [lengths[k], ...] for each piece k of `dealt(len(lengths))`, which must not be empty; one type, and one
            shape but for the first dimension, in all processes.
        lengths: The first dimension of every piece.
    """
    if num_processes() == 1:
        return list(own)
    rounds, longest = -(-len(lengths) // num_processes()), max(lengths)
    example = own[0]
    padded = example.new_zeros((rounds, longest, *example.shape[1:]))
    for slot, tensor in enumerate(own):
        padded[slot, : len(tensor)] = tensor
    everywhere = exchange(padded)
    return [
        everywhere[piece % num_processes()][piece // num_processes(), :length] for piece, length in enumerate(lengths)
    ]


def exchange(tensor: Tensor) -> list[Tensor]:
    """The tensor of every process, by rank; all of one type and shape."""
    sent = tensor.contiguous().reshape(-1).view(torch.uint8)
    received = [torch.empty_like(sent) for _ in range(num_processes())]
    with _peer_errors():
        dist.all_gather(received, sent)
    return [each.view(tensor.dtype).view(tensor.shape) for each in received]


def sum_in_buckets(tensors: Sequence[Tensor]) -> None:
    """Replace every tensor by its sum over the processes, in place and in whatever order is fastest."""
    waiting = []
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        with _peer_errors():
            waiting.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, work in waiting:
        with _peer_errors():
            work.wait()
        parts = flat.split([tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        held = sum(each.numel() * each.element_size() for each in bucket)
        if bucket and (held >= BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@functools.cache
def _network_errors() -> tuple[type[Exception], ...]:
    names = ("DistBackendError", "DistNetworkError", "DistStoreError", "DistError")
    return tuple(getattr(dist, name) for name in names if hasattr(dist, name))


@contextlib.contextmanager
def _peer_errors() -> Iterator[None]:
    """Turn what torch raises when a process has gone into one line.

    Raises:
        PeerLostError: In its place.
    """
    try:
        yield
    except RuntimeError as error:
        said = " ".join(str(error).split())
        network = ("gloo", "peer", "onnection", "timed out", "imeout", "NCCL")
        if not isinstance(error, _network_errors()) and not any(word in said for word in network):
            raise
        raise PeerLostError(
            f"process {process_rank()} of {num_processes()} has lost the others: {said[:200]}",
            hint="its run goes on from the last checkpoint by `clr pretrain --resume`",
        ) from error

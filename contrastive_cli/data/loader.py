"""Which samples make a batch, as a pure function of the step, and fetching them by index."""

from __future__ import annotations

import functools
import hashlib
import math
import mmap
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.core.errors import DataError

UPLOAD_BYTES = 64 * 1024**2


def steps_per_epoch(*, num_samples: int, batch_size: int) -> int:
    """Whole batches in an epoch; the samples left over are dropped (others each epoch).

    Raises:
        DataError: If there is not one whole batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if num_samples < 2:
        raise DataError(f"there is nothing to train on: training images: {num_samples}", hint="give at least 2 images")
    if batch_size > num_samples:
        raise DataError(
            f"a batch of {batch_size} is larger than the {num_samples} training images",
            hint=f"use --batch-size {max(2, num_samples // 2)} or smaller",
        )
    return num_samples // batch_size


def batch_indices(*, step: int, num_samples: int, batch_size: int, seed: int) -> tuple[int, Tensor]:
    """The samples of one training step: each epoch is a fresh permutation, cut into whole batches.

    Args:
        step: Counted from zero over the whole training.
        num_samples: N.
        batch_size: B.
        seed: Same seed, same order.

    Returns:
        The epoch, and int64 [B] indices on the CPU.

    Raises:
        DataError: If B > N.
    """
    epoch, position = divmod(step, steps_per_epoch(num_samples=num_samples, batch_size=batch_size))
    order = _epoch_order(epoch, num_samples=num_samples, seed=seed)
    return epoch, order[position * batch_size : (position + 1) * batch_size].clone()


def balanced_batch_indices(
    *, step: int, labels: NDArray[np.int64], batch_size: int, images_per_class: int, seed: int
) -> tuple[int, Tensor]:
    """The samples of one step with K images of each of B / K classes, whatever the sizes of the classes (P x K).

    A round visits every class once in a fresh order and takes K of its images, the next K in the next round; all of
    them where it has fewer, so a class of one image gives one. The images of a round are cut into whole batches: a
    batch always has B images, none twice, and its last class may go on in the next batch. Unlabeled samples (-1)
    are classes of one.

    Args:
        step: Counted from zero over the whole training.
        labels: [N].
        batch_size: B.
        images_per_class: K, at least 1.
        seed: Same seed, same order.

    Returns:
        The round, and int64 [B] indices on the CPU.

    Raises:
        DataError: If a round has fewer than B images.
    """
    classes = _classes(labels)
    num_images = _images_of_round(classes, images_per_class)
    if num_images < batch_size:
        raise DataError(
            f"{len(np.unique(classes))} classes with up to {images_per_class} images each do not fill a batch of "
            f"{batch_size}",
            hint=f"use --batch-size {max(2, num_images)}, or more train.images_per_class",
        )
    round_, position = divmod(step, num_images // batch_size)
    order = _round_order(round_, classes=classes.tobytes(), images_per_class=images_per_class, seed=seed)
    return round_, order[position * batch_size : (position + 1) * batch_size].clone()


def images_per_round(labels: NDArray[np.int64], *, images_per_class: int) -> int:
    """How many images one round over the classes of `labels` [N] shows: the largest batch of P x K."""
    return _images_of_round(_classes(labels), images_per_class)


def _images_of_round(classes: NDArray[np.int64], images_per_class: int) -> int:
    _, counts = np.unique(classes, return_counts=True)
    return int(np.minimum(counts, images_per_class).sum())


def _classes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every unlabeled sample (-1) is a class of one."""
    return np.where(labels < 0, -1 - np.arange(len(labels)), labels)


@functools.lru_cache(maxsize=2)
def _round_order(round_: int, *, classes: bytes, images_per_class: int, seed: int) -> Tensor:
    """All images of a round: the classes in the round's order, and of each its next K images."""
    _, members, counts = np.unique(np.frombuffer(classes, np.int64), return_inverse=True, return_counts=True)

    # A class is visited `visits` times, each time for its next K images, before it is shuffled anew for a new cycle.
    visits = np.maximum(1, counts // images_per_class)
    cycles, visit = np.divmod(round_, visits)

    # The order of images within a class: a hash of (seed, image, cycle), which stays until all its visits are done.
    keys = _hash(seed, np.arange(len(members)), cycles[members])
    by_class = np.lexsort((keys, members))

    # `rank` is an image's place in its class; this visit takes the K ranks from `first` on.
    rank = np.empty(len(members), np.int64)
    rank[by_class] = np.arange(len(members)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = (visit * images_per_class)[members]
    taken = np.flatnonzero((rank >= first) & (rank < first + images_per_class))

    # Classes follow each other in an order that is new in each round, images of a class stay together.
    place = _hash(~seed, np.arange(len(counts)), round_)[members[taken]]
    return torch.from_numpy(taken[np.lexsort((keys[taken], place))])


def _hash(*parts: int | NDArray[np.int64]) -> NDArray[np.uint64]:
    """SplitMix64 over integers, element by element."""
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = state + np.asarray(part).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


@functools.lru_cache(maxsize=2)
def _epoch_order(epoch: int, *, num_samples: int, seed: int) -> Tensor:
    digest = hashlib.sha256(f"order {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    return torch.randperm(num_samples, generator=generator)


def draw_positions(count: int, *, limit: int, seed: int) -> NDArray[np.int64]:
    """`limit` of the positions below `count`, drawn without replacement: ascending int64 [min(limit, count)]."""
    drawn: NDArray[np.int64] = np.sort(np.random.default_rng(seed).permutation(count)[:limit])
    return drawn


class DeviceImages:
    """The images of a dataset, gathered by index onto a device.

    They are copied to the device as a whole when they take at most `memory_fraction` of its free memory; otherwise
    each batch is gathered from the memory map and moved.

    Args:
        images: uint8 [N, C, H, W].
        device: Where gathered images end up.
        memory_fraction: In [0, 1]; 0 never copies the whole.
        channels: C of what is gathered, where gray images stand for all of them; None leaves it.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        *,
        device: torch.device | str,
        memory_fraction: float = 0.5,
        channels: int | None = None,
    ) -> None:
        self.channels = channels if channels is not None and images.shape[1] == 1 else images.shape[1]
        self.device = torch.device(device)
        self._announce = announcer(images)
        on_host = _as_tensor(images)
        fits = fits_on_device(images.nbytes, device=self.device, memory_fraction=memory_fraction)
        self.images = _upload(on_host, device=self.device) if fits else on_host

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @property
    def on_host(self) -> bool:
        """Whether a batch is gathered by the processor, from memory or a file."""
        return self.images.device.type == "cpu"

    def gather(self, indices: Tensor) -> Tensor:
        """Images [..., C, H, W] uint8 on the device, for int64 indices [...] on any device."""
        flat = indices.to(self.images.device, non_blocking=True).flatten()
        if self.on_host:
            self._announce(flat)
        return self.placed(self._staged(self.images.index_select(0, flat)), indices)

    def fetched(self, indices: Tensor) -> Tensor:
        """Rows that `placed` takes, for int64 indices on the CPU, of images on the host; in this thread alone."""
        flat = indices.flatten()
        self._announce(flat)
        return self._staged(torch.from_numpy(np.take(self.images.numpy(), flat.numpy(), axis=0)))

    def placed(self, rows: Tensor, indices: Tensor) -> Tensor:
        """What `gather` returns for `indices`, of rows that were fetched."""
        rows = rows.to(self.device, non_blocking=True).expand(-1, self.channels, -1, -1)
        return rows.view(*indices.shape, *rows.shape[1:])

    def _staged(self, rows: Tensor) -> Tensor:
        """In a pinned buffer, from which the copy to the device runs beside the computation."""
        return rows.pin_memory() if self.device.type == "cuda" and rows.device.type == "cpu" else rows


def announcer(images: NDArray[np.uint8]) -> Callable[[Tensor], None]:
    """What tells the system which rows [R] of a mapped file are read next, so that it reads them all at once.

    Without it each page is waited for, one after the other. Of an array in memory it does nothing.
    """
    owner: object = images
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.obj if isinstance(owner, memoryview) else owner.base
    if not isinstance(owner, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED") or not images.flags.c_contiguous:
        return lambda rows: None
    mapping, bytes_of_row = owner, images[:1].nbytes
    first = images.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data

    def announce(rows: Tensor) -> None:
        for row in rows.tolist():
            if 0 <= row < len(images):
                start = first + row * bytes_of_row
                page = start - start % mmap.PAGESIZE
                mapping.madvise(mmap.MADV_WILLNEED, page, start + bytes_of_row - page)

    return announce


def fits_on_device(num_bytes: int, *, device: torch.device, memory_fraction: float = 0.5) -> bool:
    """Whether `num_bytes` are at most `memory_fraction` of the free memory; false on the CPU, which needs no copy."""
    return num_bytes <= memory_fraction * _free_memory(device)


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return -math.inf


def _as_tensor(images: NDArray[np.uint8]) -> Tensor:
    with warnings.catch_warnings():
        # The map is read-only and torch cannot say so; nothing here writes to it.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(np.asarray(images))


def _upload(images: Tensor, *, device: torch.device) -> Tensor:
    target = torch.empty(images.shape, dtype=images.dtype, device=device)
    rows = max(1, UPLOAD_BYTES // max(1, images[0].numel()))
    for start in range(0, len(images), rows):
        target[start : start + rows].copy_(images[start : start + rows])
    return target

"""Write decoded samples one after the other into a file, with threads decoding ahead and memory bounded."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.images import BadImage, Images
from contrastive_cli.data.quiet_decoders import quiet_decoders
from contrastive_cli.data.sources import BadFile, Samples

CHUNK = 64  # samples a task; two tasks a thread are in flight


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """What was written.

    Attributes:
        kept: Indices of the samples that are in the file, ascending.
        bad_files: The others.
        pixels_sha256: Of the file, in hex.
        histogram: int64 [C, 256], how often each value is in each channel; [0, 256] where nothing was kept.
    """

    kept: tuple[int, ...]
    bad_files: tuple[BadFile, ...]
    pixels_sha256: str
    histogram: NDArray[np.int64]

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of each channel, in [0, 1]; from integer sums, so that they depend on nothing but the pixels."""
        values = np.arange(256) / 255.0
        count = max(1, int(self.histogram[:1].sum()))
        mean = self.histogram @ values / count
        square = self.histogram @ values**2 / count
        std = np.sqrt(np.maximum(square - mean**2, (1 / 255) ** 2))  # images of one color can be divided by it too
        return tuple(mean.tolist()), tuple(std.tolist())


def pack_samples(samples: Samples, indices: range, *, file: BinaryIO, progress: CountProgress | None) -> Packed:
    """Decode samples in order into `file`; those that cannot be decoded are left out and noted."""
    kept: list[int] = []
    bad_files: list[BadFile] = []
    digest = hashlib.sha256()
    histogram = np.zeros((0, 256), dtype=np.int64)
    done = 0
    with quiet_decoders():
        for those, good, bad in _decode_in_order(samples, indices):
            if good:
                block = np.ascontiguousarray(np.stack(good))  # stacking transposed arrays keeps their order
                file.write(block.data)
                digest.update(block.data)
                counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in block.swapaxes(0, 1)])
                histogram = histogram + counts if len(histogram) else counts
            kept += those
            bad_files += bad
            done += len(those) + len(bad)
            if progress is not None:
                progress(done, len(indices))
    return Packed(kept=tuple(kept), bad_files=tuple(bad_files), pixels_sha256=digest.hexdigest(), histogram=histogram)


def decoding_threads() -> int:
    """Threads for a pass over files: a second one reads while the first decodes."""
    return min(8, max(2, os.cpu_count() or 1))


Result = TypeVar("Result")


def in_order(function: Callable[[int], Result], total: int) -> Iterator[Result]:
    """`function` of 0 to `total` - 1 in threads, in order, with few results held; C libraries are kept quiet."""
    return parts_in_order(lambda indices: [function(index) for index in indices], total)


def parts_in_order(function: Callable[[range], Sequence[Result]], total: int) -> Iterator[Result]:
    """The same for a function of several numbers at a time, one result each."""
    num_threads = decoding_threads()
    starts = iter(range(0, total, CHUNK))
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
    ahead: deque[Future[Sequence[Result]]] = deque()
    try:
        with quiet_decoders():
            while True:
                while len(ahead) < 2 * num_threads and (start := next(starts, None)) is not None:
                    indices = range(start, min(start + CHUNK, total))
                    ahead.append(pool.submit(function, indices))
                if not ahead:
                    return
                yield from ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def image_digests(images: Images) -> Iterator[bytes]:
    """A digest of the pixels of each image [N, C, S, S]: equal images have equal ones."""
    for image in images:
        yield hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


_Chunk = tuple[list[int], list[Images], list[BadFile]]


def _decode_in_order(samples: Samples, indices: range) -> Iterator[_Chunk]:
    num_threads = decoding_threads()
    chunks = iter([indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)])
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
    ahead: deque[Future[_Chunk]] = deque()
    try:
        while True:
            while len(ahead) < 2 * num_threads and (chunk := next(chunks, None)) is not None:
                ahead.append(pool.submit(_decode_chunk, samples, chunk))
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_chunk(samples: Samples, indices: range) -> _Chunk:
    kept: list[int] = []
    good: list[Images] = []
    bad: list[BadFile] = []
    for index in indices:
        try:
            good.append(samples.read(index))
            kept.append(index)
        except BadImage as error:
            bad.append(BadFile(path=samples.paths[index], reason=error.reason))
    return kept, good, bad

"""Large tables a piece at a time, so that a memory-mapped file is never all in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

ROWS_PER_READ = 4096
ROWS_PER_GATHER = 32  # each may bring 2 MB of a file into memory


def read_pieces(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The rows of `array` [N, ...] as they are, some thousands at once, each with the number of its first row."""
    for start in range(0, len(array), ROWS_PER_READ):
        yield start, array[start : start + ROWS_PER_READ]
        release(array)


def read_chunks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The same in float64."""
    for start, piece in read_pieces(array):
        yield start, np.asarray(piece, dtype=np.float64)


def read_part(array: NDArray[Any], part: slice) -> NDArray[np.float64]:
    """Consecutive rows in float64."""
    rows = np.asarray(array[part], dtype=np.float64)
    release(array)
    return rows


def gather(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """`array[rows]` in float64, for rows of any shape that lie anywhere."""
    if _mapping(array) is None:
        return np.asarray(array[rows], dtype=np.float64)
    gathered = np.empty((rows.size, *array.shape[1:]))
    for start in range(0, rows.size, ROWS_PER_GATHER):
        part = slice(start, start + ROWS_PER_GATHER)
        gathered[part] = array[rows.ravel()[part]]
        release(array)
    return gathered.reshape(*rows.shape, *array.shape[1:])


def release(array: NDArray[Any]) -> None:
    """Give the pages of a read-only memory map back, so that what was read of a large file does not stay in memory."""
    mapping = _mapping(array)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """What lies under a read-only memory map, whose pages can be read again; of another, a change may be lost."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and not isinstance(owner.base, mmap.mmap):
        owner = owner.base
    if isinstance(owner, np.memmap) and owner.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        return cast("mmap.mmap", owner.base)
    return None

"""Arrays in numpy's own format, from bytes or, memory-mapped, from a file.

Objects in them are a pickle, which is read by our own machine; a memory map of them is refused.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import UnsafeFileError
from contrastive_cli.pickles import reader
from contrastive_cli.pickles.arrays import ArrayPlan, carry_out

MAGIC = b"\x93NUMPY"


def decode(data: bytes) -> Any:
    """The array in the content of a file; of an array of objects, what the objects are.

    Raises:
        UnsafeFileError: If its objects are anything but plain data.
        ValueError, or another error of numpy: If it is damaged.
    """
    stream = io.BytesIO(data)
    plan = _plan(stream)
    body = memoryview(data)[stream.tell() :]
    if plan.dtype.hasobject:
        return reader.load(body.tobytes())
    if plan.size != len(body):
        raise ValueError("the shape of an array does not match its bytes")
    return np.asarray(carry_out(replace(plan, data=body)))


def map_file(path: Path) -> NDArray[Any]:
    """The same array as a read-only memory map, so that only what is looked at is read. Raises as `decode`, OSError."""
    with path.open("rb") as stream:
        plan, offset = _plan(stream), stream.tell()
    if plan.dtype.hasobject:
        hint = "store text as numpy.array(paths, dtype=str) and numbers as float32"
        raise UnsafeFileError("it holds pickled objects", hint=hint)
    if offset + plan.size != path.stat().st_size:
        raise ValueError("the shape of an array does not match its bytes")
    order: Literal["C", "F"] = "F" if plan.order == "F" else "C"
    mapped: NDArray[Any] = np.memmap(path, dtype=plan.dtype, mode="r", offset=offset, shape=plan.shape, order=order)
    return mapped


def _plan(stream: BinaryIO) -> ArrayPlan:
    """What the header says; the stream stands at the numbers then."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"format version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(stream)
    if dtype.kind not in "biufcUSO" or dtype.itemsize == 0 or any(length < 0 for length in shape):
        raise ValueError(f"type {dtype}")
    return ArrayPlan(data=memoryview(b""), dtype=dtype, shape=shape, order="F" if is_fortran else "C")

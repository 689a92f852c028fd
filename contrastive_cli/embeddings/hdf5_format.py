"""HDF5, as h5py, Keras and CLIP retrieval scripts write it. Needs the extra `hdf5`.

Only data sets of numbers and text that lie in the file itself are read; links to other files are never followed. The C
library loops for ever on some damaged files and crashes on others, so it works in a process of its own, with a limit
of time; what that process says is read as a stranger's pickle.
"""

from __future__ import annotations

import importlib.util
import io
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np

from contrastive_cli.core.errors import DataError, UnsafeFileError, UsageError
from contrastive_cli.pickles import reader

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_ENTRIES = 1_000_000
MAX_LEVELS = 32
SECONDS = 20
BYTES_PER_SECOND = 10_000_000


def decode(data: bytes, *, limit: int) -> dict[str, Any]:
    """The data sets of a file by name; groups are dicts.

    Args:
        data: Its content.
        limit: Bytes that the data sets may take.

    Raises:
        UsageError: If h5py is not installed.
        UnsafeFileError: If it would fill the memory.
        DataError: If it holds no data set of numbers.
        ValueError, or another error of h5py: If it is damaged.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UsageError("HDF5 files need h5py", hint="install the extra `hdf5`, or use .npz")
    code = f"import sys; sys.path[:] = {sys.path!r}\nfrom {__name__} import answer\nanswer({limit})"
    seconds = SECONDS + len(data) // BYTES_PER_SECOND
    try:
        child = subprocess.run(
            [sys.executable, "-c", code], input=data, capture_output=True, timeout=seconds, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        raise ValueError("the HDF5 library does not come to an end with it") from None
    said = reader.load(child.stdout)
    match said["kind"]:
        case "values":
            return dict(said["value"])
        case "unsafe":
            raise UnsafeFileError(said["value"], hint="write it again without compression")
        case "data":
            raise DataError(said["value"], hint="store the matrix as a data set named `embeddings`")
        case _:
            raise ValueError(said["value"])


def answer(limit: int) -> None:
    """What the process of its own does: HDF5 on stdin, a pickle of plain values on stdout."""
    try:
        kind, value = "values", _values_of(sys.stdin.buffer.read(), limit)
    except UnsafeFileError as error:
        kind, value = "unsafe", error.message
    except DataError as error:
        kind, value = "data", error.message
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, OverflowError, MemoryError) as error:
        kind, value = "damaged", str(error)[:200]
    sys.stdout.buffer.write(pickle.dumps({"kind": kind, "value": value}, protocol=4))


def _values_of(data: bytes, limit: int) -> Any:
    import h5py

    left = [limit, MAX_ENTRIES]

    def spend(size: int) -> None:
        left[0] -= size
        left[1] -= 1
        if min(left) < 0:
            raise UnsafeFileError("it would fill the memory")

    def group_values(group: Any, level: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in group:
            spend(0)
            # Soft links may run in circles, external ones lead to other files.
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Group) and level < MAX_LEVELS:
                values[name] = group_values(item, level + 1)
            elif isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
                value = _values(h5py, item, spend)
                if value is not None:
                    values[name] = value
        return values

    with h5py.File(io.BytesIO(data), "r") as file:
        values = group_values(file, 0)
    leaves = _leaves(values, "")
    if not any(isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiu" for leaf in leaves.values()):
        raise DataError("no data set in it holds numbers")
    # A name of a file as a key makes a group of every folder in it.
    is_vector_each = len(leaves) > 1 and all(_is_vector(leaf) for leaf in leaves.values())
    return leaves if is_vector_each else values


def _values(h5py: Any, item: Any, spend: Any) -> Any:
    text = h5py.check_string_dtype(item.dtype)
    if text is None and item.dtype.kind not in "fiub":
        return None  # pictures, tables and references: not what is asked for
    count = math.prod(item.shape or ())
    spend(count * (64 if text is not None else max(4, item.dtype.itemsize)))
    if text is None:
        return np.asarray(item[()])
    read = item.asstr("utf-8", "surrogateescape")[()]
    return read.tolist() if isinstance(read, np.ndarray) else read


def _leaves(values: dict[str, Any], folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _leaves(value, f"{folder}{name}/") if isinstance(value, dict) else {f"{folder}{name}": value}
    return found


def _is_vector(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size > 1 and value.size == max(value.shape)
    )

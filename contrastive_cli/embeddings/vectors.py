"""Which of a stranger's values are vectors and matrices; lengths of one between rows and numbers are passed over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, UnsafeFileError

MAX_LIST_BYTES = 8 << 30
MAX_ROWS_NAMED = 5
_NUMBERS = (int, float, np.integer, np.floating, np.bool_)


def matrix_of(value: Any) -> NDArray[Any] | None:
    """`value` as a numeric matrix [N, D], or None if it is not one.

    Raises:
        DataError: If it is a list of vectors of which some are missing or of another length.
        UnsafeFileError: If it would need far more memory than what it is made of.
    """
    if isinstance(value, np.ndarray):
        if value.ndim > 2 and sum(length != 1 for length in value.shape[1:]) <= 1:  # [N, 1, D], [N, D, 1, 1]
            value = value.reshape(len(value), math.prod(value.shape[1:]))
        return value if value.ndim == 2 and value.dtype.kind in "biuf" else None
    if not is_sequence(value) or len(value) == 0:
        return None
    lengths = [_length(row) for row in value]
    if 0 in lengths:
        _refuse_missing(value, lengths)
        return None
    if len(set(lengths)) != 1:
        return None
    # The rows of a small file may all be one and the same long row.
    if len(value) * lengths[0] * 8 > MAX_LIST_BYTES:
        raise UnsafeFileError("the list of vectors would need far more memory than its size", hint="save it as .npz")
    return np.array([np.asarray(row, dtype=np.float32).ravel() for row in value])


def is_vector(row: Any) -> bool:
    """Whether it is one row of numbers."""
    return _length(row) > 0


def is_sequence(value: Any) -> bool:
    """Whether it is a list or a tuple."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def is_text(value: Any) -> bool:
    """Whether it is a name."""
    return isinstance(value, str | bytes)


def name_of(key: Any) -> str:
    """A key as text; Python 2 and file systems give bytes."""
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else str(key)


def describe(value: Any) -> str:
    """What a value is, for a message."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with the shape {list(value.shape)}"
    if isinstance(value, Mapping) or is_sequence(value):
        return f"a {type(value).__name__} of {len(value)} items that are not vectors of one length"
    return f"a {type(value).__name__}"


def _length(row: Any) -> int:
    """The length of a vector, 0 if it is none."""
    if isinstance(row, np.ndarray):
        is_one = row.ndim > 0 and row.dtype.kind in "biuf" and row.size == max(row.shape)
        return int(row.size) if is_one else 0
    while is_sequence(row) and len(row) == 1 and not isinstance(row[0], _NUMBERS):
        row = row[0]  # [[0.1, 0.2]], one row of a batch of one
        if isinstance(row, np.ndarray):
            return _length(row)
    if not is_sequence(row) or not all(issubclass(kind, _NUMBERS) for kind in set(map(type, row))):
        return 0
    return len(row)


def _refuse_missing(rows: Sequence[Any], lengths: list[int]) -> None:
    """Say which rows have no vector, where all others have one of one length."""
    missing = [number for number, row in enumerate(rows) if row is None]
    if not missing or len(set(lengths)) != 2 or lengths.count(0) != len(missing):
        return
    named = ", ".join(map(str, missing[:MAX_ROWS_NAMED])) + (", ..." if len(missing) > MAX_ROWS_NAMED else "")
    hint = "embed these again, or leave them out"
    raise DataError(f"{len(missing)} of {len(rows)} rows have no embedding: rows {named}", hint=hint)

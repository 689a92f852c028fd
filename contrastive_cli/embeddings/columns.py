"""One column of an embeddings file at a time: to our type, or an error that names the column and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.pieces import read_pieces

MAX_ROWS_NAMED = 5


def to_float32(value: Any, name: str) -> NDArray[np.float32]:
    """A numeric array [...] as float32; numbers too large for it become infinite and are found by `check_finite`."""
    with np.errstate(over="ignore"):
        return _numbers(value, name, kinds="biuf").astype(np.float32, copy=False)


def to_int64(value: Any, name: str) -> NDArray[np.int64]:
    """Whole numbers [...] as int64; floats are accepted when they are whole."""
    array = _numbers(value, name, kinds="biuf")
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64, copy=False)
    if not np.array_equal(whole, array) or (array.dtype.kind == "u" and bool((whole < 0).any())):
        raise DataError(f"{name} are not whole numbers that fit 64 bits", hint=f"store {name} as int64")
    return whole


def to_text(value: Any, name: str) -> tuple[str, ...]:
    """Names as text."""
    items = value.ravel().tolist() if isinstance(value, np.ndarray) else value
    if isinstance(items, list) and all(isinstance(item, bytes) for item in items):  # numpy's type S
        items = [item.decode("utf-8", "surrogateescape") for item in items]
    if not isinstance(items, Sequence) or isinstance(items, str | bytes) or not all(isinstance(i, str) for i in items):
        raise DataError(f"{name} are not a list of text", hint=f"store {name} as a list of str")
    return tuple(str(item) for item in items)  # numpy's own text scalars become plain ones


def to_labels(value: Any, classes: tuple[str, ...]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as int64 [N] and the names of the classes; labels that are names are numbered in sorted order."""
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    items = list(to_text(value, "labels")) if isinstance(value, np.ndarray) and value.dtype.kind in "UOS" else value
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, str) for item in items):
        return to_int64(value, "labels"), classes
    if not set(items) <= set(classes):
        classes = tuple(sorted({str(item) for item in items}))
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[item] for item in items], dtype=np.int64), classes


def to_json(value: Any, name: str) -> dict[str, Any]:
    """A mapping of plain JSON types, copied."""
    try:
        copied = json.loads(json.dumps(dict(value)))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{name} holds values that are not plain JSON: {error}", hint="use str, int, float") from None
    return dict(copied)


def foreign_json(value: Any) -> dict[str, Any]:
    """As `to_json`, but a stranger's value of another kind is left out: it is not needed to use the file."""
    if not isinstance(value, Mapping):
        return {}
    try:
        return to_json(value, "metadata")
    except DataError:
        return {}


def check_finite(rows: NDArray[np.float32], name: str) -> None:
    """Raise DataError naming the first rows [N, ...] that hold a NaN or an infinity."""
    finite = [np.isfinite(piece).reshape(len(piece), -1).all(axis=1) for _, piece in read_pieces(rows)]
    bad = np.flatnonzero(~np.concatenate(finite)) if finite else np.empty(0, np.int64)
    if len(bad):
        first = ", ".join(str(row) for row in bad[:MAX_ROWS_NAMED]) + (", ..." if len(bad) > MAX_ROWS_NAMED else "")
        hint = "the model that made them diverged, or a number does not fit float32; make them again"
        raise DataError(f"{len(bad)} of {len(rows)} rows of {name} are not finite: rows {first}", hint=hint)


def check_length(value: Sequence[Any] | NDArray[Any] | None, length: int, name: str) -> None:
    """Raise DataError unless the column is absent or a flat one of `length` entries."""
    if value is None:
        return
    if isinstance(value, np.ndarray) and value.ndim != 1:
        raise DataError(f"{name} have the shape {list(value.shape)}, expected [{length}]", hint="store one per row")
    if len(value) != length:
        raise DataError(f"{len(value)} {name} for {length} rows", hint=f"store one of the {name} per row")


def _numbers(value: Any, name: str, *, kinds: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in kinds:
        raise DataError(f"{name} are not numbers but {array.dtype}", hint=f"store {name} as a numeric array")
    return array

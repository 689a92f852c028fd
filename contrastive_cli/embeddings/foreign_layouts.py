"""What people put into embeddings files, brought to one set of columns.

Understood: a dict with a matrix under one of its usual names (or as the only float matrix), `{path: vector}`,
`[(path, vector), ...]`, `(matrix, labels)`, a bare matrix, a list of vectors, and dicts within which
one of these stands beside nothing else that could be meant. Everything else is a clear error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, UnsafeFileError

MAX_LIST_BYTES = 8 << 30
MAX_LEVELS = 4  # of dicts within dicts
MAX_ENTRIES = 2_000_000  # of all dicts on one level, about what takes a second

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "embeddings": ("embeddings", "embedding", "embs", "features", "feats", "vectors", "x"),
    "labels": ("labels", "label", "targets", "target", "y"),
    "paths": ("paths", "path", "filenames", "filename", "files", "image_paths", "names"),
    "classes": ("classes", "class_names"),
    "indices": ("indices", "index"),
    "uncertainty": ("uncertainty", "uncertainties"),
}
_METADATA = ("schema", "model", "preprocess", "dataset")


def columns_of(value: Any) -> dict[str, Any]:
    """The columns in `value`, by our names; `embeddings` is always among them and is a numeric matrix [N, D].

    Raises:
        DataError: If no matrix of embeddings can be recognized; the message says what was found.
    """
    matrix = _matrix(value)
    if matrix is not None:
        return {"embeddings": matrix}
    if isinstance(value, dict):
        columns = _from_dict(value)
        if columns is None:
            columns = _within(value)
        if columns is None:
            keys = ", ".join(ascii(key)[:30] for key in list(value)[:8]) or "(none)"
            raise _not_recognized(f"a dict with the keys {keys}")
        return columns
    if _is_sequence(value) and len(value) == 2 and (matrix := _matrix(value[0])) is not None:
        return {"embeddings": matrix, "labels": value[1]}
    if _is_sequence(value) and all(_is_sequence(pair) and len(pair) == 2 and _is_text(pair[0]) for pair in value):
        matrix = _matrix([pair[1] for pair in value])
        if matrix is not None:
            return {"embeddings": matrix, "paths": [str(pair[0]) for pair in value]}
    raise _not_recognized(_describe(value))


def _within(value: dict[Any, Any]) -> dict[str, Any] | None:
    """The columns of the one dict in `value` that has some, on the highest level where any has."""
    level = [value]
    for _ in range(MAX_LEVELS):
        level = [item for parent in level for item in parent.values() if isinstance(item, dict)]
        if sum(map(len, level)) > MAX_ENTRIES:  # a small file can hold one large dict a million times
            return None
        found = [columns for item in level if (columns := _from_dict(item))]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _from_dict(value: dict[Any, Any]) -> dict[str, Any] | None:
    by_name = {_name(key).lower(): item for key, item in value.items()}
    columns = {name: by_name[name] for name in _METADATA if name in by_name}
    for name, synonyms in _SYNONYMS.items():
        found = next((by_name[synonym] for synonym in synonyms if by_name.get(synonym) is not None), None)
        if found is not None:
            columns[name] = found
    named = _matrix(columns.get("embeddings"))
    if named is not None:
        return columns | {"embeddings": named}
    if "embeddings" in columns:
        raise _not_recognized(f"its embeddings are {_describe(columns['embeddings'])}")
    floats = [item for item in value.values() if isinstance(item, np.ndarray) and item.dtype.kind == "f"]
    matrices = [matrix for item in floats if (matrix := _matrix(item)) is not None]
    if len(matrices) == 1:
        return columns | {"embeddings": matrices[0]}
    stacked = _matrix(list(value.values()))
    if stacked is not None:
        return {"embeddings": stacked, "paths": [_name(key) for key in value]}
    return None


def _name(key: Any) -> str:
    """A key as text; Python 2 and file systems give bytes."""
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else str(key)


def _matrix(value: Any) -> NDArray[Any] | None:
    """`value` as a numeric matrix, or None if it is not one."""
    if isinstance(value, np.ndarray):
        if value.ndim > 2 and math.prod(value.shape[2:]) == 1:  # pooled features as [N, D, 1, 1]
            value = value.reshape(value.shape[:2])
        return value if value.ndim == 2 and value.dtype.kind in "biuf" else None
    if not _is_sequence(value) or len(value) == 0:
        return None
    if not all(_is_vector(row) for row in value) or len({len(row) for row in value}) != 1:
        return None
    # The rows of a small file may all be one and the same long row.
    if len(value) * len(value[0]) * 8 > MAX_LIST_BYTES:
        raise UnsafeFileError("the list of vectors would need far more memory than its size", hint="save it as .npz")
    return np.array([np.asarray(row, dtype=np.float32) for row in value])


def _is_vector(row: Any) -> bool:
    if isinstance(row, np.ndarray):
        return row.ndim == 1 and row.dtype.kind in "biuf"
    kinds = (int, float, np.integer, np.floating, np.bool_)
    return _is_sequence(row) and len(row) > 0 and all(issubclass(kind, kinds) for kind in set(map(type, row)))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with the shape {list(value.shape)}"
    if isinstance(value, Mapping) or _is_sequence(value):
        return f"a {type(value).__name__} of {len(value)} items that are not vectors of one length"
    return f"a {type(value).__name__}"


def _not_recognized(found: str) -> DataError:
    hint = "give a float matrix [N, D], or a dict with `embeddings` and, if known, `labels` and `paths`"
    return DataError(f"no embeddings recognized: {found}", hint=hint)

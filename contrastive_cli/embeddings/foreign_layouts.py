"""What people put into embeddings files, brought to one matrix and the columns that stand beside it.

Understood: a matrix; a list of vectors; a dict with a matrix under one of its usual names (or as the only float
matrix), or with a numbered column for every dimension; `{path: vector}`; a person to several vectors; lists of pairs,
of rows and of dicts; `(matrix, labels)`, `(names, matrix)`; batches; and dicts within which one of these stands beside
nothing else that could be meant. Lengths of one between N and D are passed over. Everything else is a clear error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.vectors import describe, is_sequence, is_text, is_vector, matrix_of, name_of
from contrastive_cli.embeddings.wide_columns import EMBEDDINGS, Columns, columns_by_row, numbered_columns
from contrastive_cli.embeddings.wide_columns import HINT as WIDE_HINT

MAX_LEVELS = 4  # of dicts within dicts
MAX_ENTRIES = 2_000_000  # of all dicts on one level, about what takes a second
MAX_PARTS = 8  # of a row that is a tuple
METADATA = ("schema", "model", "preprocess", "dataset")
HINT = "give a float matrix [N, D], or a dict with `embeddings` and, if known, `labels` and `paths`"

_WORDS = ("embed", "feat", "vec", "encod", "represent", "descriptor", "latent")
_NO_PEOPLE = {
    *EMBEDDINGS, *METADATA, "train", "val", "valid", "validation", "test", "dev", "eval", "gallery", "query", "queries",
    "probe", "support", "h", "z", "y", "cls", "patch", "head", "logits", "mean", "std",
}  # fmt: skip
_SEVERAL_NEED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignLayout:
    """A matrix [N, D], what stands beside it by its own name, and what a person should know of how it was read."""

    matrix: NDArray[Any]
    columns: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def layout_of(value: Any) -> ForeignLayout:
    """The matrix in `value` and the columns beside it.

    Raises:
        DataError: If no matrix of embeddings can be recognized; the message says what was found.
        UnsafeFileError: If the matrix would need far more memory than what it is made of.
    """
    matrix = matrix_of(value)
    if matrix is not None:
        return ForeignLayout(matrix=matrix)
    found = None
    if isinstance(value, dict):
        found = _of_dict(value) or _within(value)
        if found is None:
            keys = ", ".join(ascii(key)[:30] for key in list(value)[:8]) or "(none)"
            if isinstance(value, Columns):
                raise DataError(f"no embeddings recognized: a table with the columns {keys}", hint=WIDE_HINT)
            raise _not_recognized(f"a dict with the keys {keys}")
    elif is_sequence(value) and len(value):
        found = _of_parts(value) or _of_records(value) or _of_rows(value) or _of_batches(value)
    if found is None:
        raise _not_recognized(describe(value))
    return found


def key_of(name: Any) -> str:
    """A name of a column as it is compared: small letters, one sign between words."""
    return name_of(name).strip().lower().replace(" ", "_").replace("-", "_")


def _of_dict(value: dict[Any, Any]) -> ForeignLayout | None:
    value = columns_by_row(value, most=MAX_ENTRIES) or value
    by_name = {key_of(key): item for key, item in value.items() if item is not None}
    if {"columns", "data"} <= by_name.keys() and is_sequence(by_name["columns"]) and is_sequence(by_name["data"]):
        return _of_table(by_name["columns"], by_name["data"])
    named = [name for name in EMBEDDINGS if name in by_name]
    for name in named:
        found = _of_column(by_name, name)
        if found is not None:
            return found
    ways: list[Callable[[dict[Any, Any]], ForeignLayout | None]] = [_of_wide, _of_only_matrix, _of_words]
    if not isinstance(value, Columns):
        ways.append(_of_keys)
    for way in ways:
        found = way(value)
        if found is not None:
            return found
    if named and not _is_flat(by_name[named[0]]):
        raise _not_recognized(f"its {named[0]} are {describe(by_name[named[0]])}")
    return None


def _of_column(by_name: dict[str, Any], name: str) -> ForeignLayout | None:
    value = by_name[name]
    rest = {key: item for key, item in by_name.items() if key != name}
    matrix = matrix_of(value)
    if matrix is not None:
        return ForeignLayout(matrix=matrix, columns=rest)
    if isinstance(value, dict):
        inner = _of_dict(value)
    else:
        inner = _of_rows(value) or _of_records(value) or _of_batches(value) if is_sequence(value) else None
    if inner is None:
        return None
    return ForeignLayout(matrix=inner.matrix, columns=rest | inner.columns, notes=inner.notes)


def _of_wide(value: dict[Any, Any]) -> ForeignLayout | None:
    found = numbered_columns(value)
    if found is None:
        return None
    matrix, used, prefix = found
    rest = {key_of(key): item for key, item in value.items() if key not in used}
    is_named = prefix in EMBEDDINGS or any(word in prefix for word in _WORDS)
    is_table = isinstance(value, Columns) or is_named
    if not is_table and not any(is_sequence(item) and len(item) == len(matrix) for item in rest.values()):
        return None  # as well a vector for each of several numbered images
    return ForeignLayout(matrix=matrix, columns=rest)


def _of_only_matrix(value: dict[Any, Any]) -> ForeignLayout | None:
    floats = {key: item for key, item in value.items() if isinstance(item, np.ndarray) and item.dtype.kind == "f"}
    matrices = {key: matrix for key, item in floats.items() if (matrix := matrix_of(item)) is not None}
    if len(matrices) != 1 or _is_vector_each(value.values()):
        return None
    ((name, matrix),) = matrices.items()
    return ForeignLayout(matrix=matrix, columns={key_of(key): item for key, item in value.items() if key != name})


def _of_words(value: dict[Any, Any]) -> ForeignLayout | None:
    """The one matrix whose name has a word for embeddings in it, as `image_embeddings` has."""
    names = [key for key in value if any(word in key_of(key) for word in _WORDS)]
    matrices = {key: matrix for key in names[:100] if (matrix := matrix_of(value[key])) is not None}
    if len(matrices) != 1 or _is_vector_each(value.values()):
        return None
    ((name, matrix),) = matrices.items()
    return ForeignLayout(matrix=matrix, columns={key_of(key): item for key, item in value.items() if key != name})


def _of_keys(value: dict[Any, Any]) -> ForeignLayout | None:
    """A dict from names to what each has: a vector, a row, a dict, or several vectors."""
    names, items = [name_of(key) for key in value], list(value.values())
    matrix = matrix_of(items)
    if matrix is not None:
        return ForeignLayout(matrix=matrix, columns={"paths": names})
    found = _of_several(names, items) or _of_records(items) or _of_rows(items)
    if found is not None:
        return found if len(found.matrix) != len(names) else _with_names(found, names)
    vectors = {name: item for name, item in zip(names, items, strict=True) if is_vector(item)}
    others = [name for name in names if name not in vectors]
    if len(vectors) < _SEVERAL_NEED or len(vectors) < 3 * len(others):
        return None
    matrix = matrix_of(list(vectors.values()))
    if matrix is None:
        return None
    left_out = f"{', '.join(others)[:80]} left out: no vector like the {len(vectors)} others"
    return ForeignLayout(matrix=matrix, columns={"paths": list(vectors)}, notes=(left_out,))


def _with_names(found: ForeignLayout, names: list[str]) -> ForeignLayout:
    return ForeignLayout(matrix=found.matrix, columns={"key": names} | found.columns, notes=found.notes)


def _of_several(names: list[str], items: list[Any]) -> ForeignLayout | None:
    """Several vectors of each person."""
    if {key_of(name) for name in names} & _NO_PEOPLE or not names:
        return None
    opened: dict[int, NDArray[Any] | None] = {}
    for item in items:
        if id(item) not in opened:
            opened[id(item)] = None if is_vector(item) else matrix_of(item)
    matrices = [opened[id(item)] for item in items]
    vectors = [matrix for matrix in matrices if matrix is not None]
    if len(vectors) != len(items) or len({matrix.shape[1] for matrix in vectors}) != 1:
        return None
    counts = [len(matrix) for matrix in vectors]
    if all(isinstance(item, np.ndarray) for item in items) and len(names) < _SEVERAL_NEED and len(set(counts)) == 1:
        return None  # two matrices of one shape: as well two views of the same images
    labels = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    paths = [f"{name}/{number}" for name, count in zip(names, counts, strict=True) for number in range(count)]
    note = f"read as {len(names)} classes with several vectors each, by the keys {', '.join(names[:3])[:60]} ..."
    return ForeignLayout(matrix=np.concatenate(vectors), columns={"labels": labels, "paths": paths}, notes=(note,))


def _of_parts(value: Sequence[Any]) -> ForeignLayout | None:
    """A matrix and columns of its length, in any order: (matrix, labels), (names, matrix), (names, matrix, labels)."""
    if not 2 <= len(value) <= 4:
        return None
    matrices = [matrix_of(part) for part in value]
    places = [place for place, matrix in enumerate(matrices) if matrix is not None]
    if len(places) != 1 or all(is_sequence(part) and len(part) == 2 and is_text(part[0]) for part in value):
        return None
    matrix = matrices[places[0]]
    assert matrix is not None, "it is the one that was found"
    parts = [part for place, part in enumerate(value) if place != places[0]]
    return ForeignLayout(matrix=matrix, columns=_guessed(parts, len(matrix)))


def _of_records(value: Sequence[Any]) -> ForeignLayout | None:
    """A list of dicts with the same keys, as DeepFace and `frame.to_dict("records")` give it; also one list of each."""
    if all(is_sequence(item) and 0 < len(item) < MAX_PARTS and isinstance(item[0], dict) for item in value):
        value = [record for item in value for record in item]
    if not value or not all(isinstance(record, dict) for record in value):
        return None
    keys = list(value[0])
    if len(keys) * len(value) > MAX_ENTRIES * MAX_PARTS:
        return None
    first = value[0]
    named = [key for key in keys if key_of(key) in EMBEDDINGS or any(word in key_of(key) for word in _WORDS)]
    has_vector = any(is_vector(first[key]) for key in named or keys[:1000])
    if not has_vector and numbered_columns(first, of_rows=False) is None:
        return None
    return _of_dict(Columns({key: [record.get(key) for record in value] for key in keys}))


def _of_table(names: Sequence[Any], rows: Sequence[Any]) -> ForeignLayout | None:
    """What `frame.to_dict("split")` gives."""
    if not all(is_sequence(row) and len(row) == len(names) for row in rows):
        return None
    return _of_dict(Columns(zip(map(name_of, names), map(list, zip(*rows, strict=True)), strict=True)))


def _of_rows(value: Sequence[Any]) -> ForeignLayout | None:
    """Rows that are tuples with one vector in them: (path, vector), (vector, label), (path, vector, label)."""
    if not value or not all(is_sequence(row) for row in value) or len({len(row) for row in value}) != 1:
        return None
    if not 2 <= len(value[0]) <= MAX_PARTS:
        return None
    columns = [list(column) for column in zip(*value, strict=True)]
    places = [place for place, column in enumerate(columns) if is_vector(column[0])]
    if len(places) != 1 or (matrix := matrix_of(columns[places[0]])) is None:
        return None
    return ForeignLayout(
        matrix=matrix,
        columns=_guessed([column for place, column in enumerate(columns) if place != places[0]], len(matrix)),
    )


def _of_batches(value: Sequence[Any]) -> ForeignLayout | None:
    """Three batches and more, all of one size but for the last."""
    matrices = [matrix_of(part) for part in value]
    batches = [matrix for matrix in matrices if matrix is not None]
    sizes = [len(batch) for batch in batches]
    if len(batches) != len(value) or len(value) < _SEVERAL_NEED or len({batch.shape[1] for batch in batches}) != 1:
        return None
    if len(set(sizes[:-1])) != 1 or sizes[-1] > sizes[0]:
        return None
    return ForeignLayout(matrix=np.concatenate(batches), notes=(f"read as {len(batches)} batches of {sizes[0]} rows",))


def _guessed(parts: Iterable[Any], num_rows: int) -> dict[str, Any]:
    """Names for columns that have none: text of which none is there twice are paths, the rest are labels."""
    columns: dict[str, Any] = {}
    for number, part in enumerate(parts, 1):
        items = part.ravel().tolist() if isinstance(part, np.ndarray) else part
        is_names = is_sequence(items) and len(items) == num_rows and all(isinstance(i, str | bytes) for i in items)
        name = "paths" if is_names and len(set(items)) == num_rows else "labels"
        columns[name if name not in columns else f"part {number}"] = part
    return columns


def _within(value: dict[Any, Any]) -> ForeignLayout | None:
    """What the one dict in `value` that has embeddings holds, on the highest level where any has."""
    level: list[dict[Any, Any]] = [value]
    for _ in range(MAX_LEVELS):
        level = [item for parent in level for item in parent.values() if isinstance(item, dict)]
        if sum(map(len, level)) > MAX_ENTRIES:  # a small file can hold one large dict a million times
            return None
        found = [layout for item in level if (layout := _of_dict(item))]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _is_vector_each(values: Iterable[Any]) -> bool:
    return all(is_vector(value) for value in values)


def _is_flat(value: Any) -> bool:
    """Whether it is a plain column or a single value, which may have the name by chance."""
    if isinstance(value, np.ndarray):
        return value.ndim < 2
    return not is_sequence(value) and not isinstance(value, Mapping)


def _not_recognized(found: str) -> DataError:
    return DataError(f"no embeddings recognized: {found}", hint=HINT)

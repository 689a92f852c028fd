"""The columns beside a stranger's vectors: each is found by one of its usual names, or left out with a note.

The vectors are what was asked for, so no other column may stand in their way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.columns import to_float32, to_int64
from contrastive_cli.embeddings.vectors import is_sequence, name_of

UNKNOWN = -1
IGNORED = -100  # what torch's losses pass over

_PATHS = (
    "paths", "path", "filenames", "filename", "file_names", "file_name", "files", "file", "filepaths", "filepath",
    "file_paths", "file_path", "image_paths", "image_path", "imagepaths", "imagepath", "img_paths", "img_path",
    "image_files", "image_file", "image_names", "image_name", "img_names", "img_name", "fnames", "fname", "images",
    "image", "imgs", "img", "photos", "photo", "urls", "url", "uris", "uri",
)  # fmt: skip
_NAMES = (
    "names", "name", "identities", "identity", "keys", "key", "samples", "sample", "items", "item", "sample_ids",
    "sample_id", "image_ids", "image_id", "uids", "uid", "uuid", "ids", "id", "index",
)  # fmt: skip
_LABELS = (
    "labels", "label", "targets", "target", "y", "class", "class_labels", "class_label", "class_ids", "class_id",
    "class_idx", "category", "categories", "category_id", "ground_truth", "gt", "persons", "person", "people",
    "subjects", "subject", "person_ids", "person_id", "pids", "pid",
)  # fmt: skip
_CLASSES = ("classes", "class_names", "label_names", "class_to_idx", "idx_to_class", "id2label", "categories", "names")
_INDICES = ("indices", "index", "idxs", "idx", "ids", "id")
_UNCERTAINTY = ("uncertainty", "uncertainties")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ForeignColumns:
    """What was found beside N vectors; `notes` says what was left out and why."""

    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    paths: tuple[str, ...] | None
    indices: NDArray[np.int64] | None
    uncertainty: NDArray[np.float32] | None
    notes: tuple[str, ...]


def columns_beside(columns: Mapping[str, Any], num_rows: int) -> ForeignColumns:
    """The columns of `num_rows` rows by our names."""
    notes: list[str] = []
    paths = _first(columns, _PATHS, num_rows, _paths, notes) or _first(columns, _NAMES, num_rows, _names, [])
    classes = next((found for name in _CLASSES if (found := _classes(columns.get(name), num_rows))), ())
    labelled = _first(columns, _LABELS, num_rows, lambda value, n: _labels(value, n, classes, paths), notes)
    if labelled is None:
        labelled = _first(columns, ("identities", "identity"), num_rows, _numbered, [])
    if labelled is None:  # names that come again are those of people or classes
        labelled = _first(columns, ("classes", "names", "name", *_NAMES), num_rows, _repeated, [])
    labels, classes = (None, classes) if labelled is None else labelled
    if labels is not None and classes and labels.max() >= len(classes):
        notes.append(f"the names of {len(classes)} classes left out: a label is {labels.max()}")
        classes = ()
    indices = _first(columns, _INDICES, num_rows, _indices, [])
    uncertainty = _first(columns, _UNCERTAINTY, num_rows, _uncertainty, notes)
    if indices is None and paths is None:
        _first(columns, _INDICES, num_rows, _indices, notes)
    if paths is None and labels is None and not classes:
        _first(columns, _NAMES, num_rows, _names, notes)
    return ForeignColumns(
        labels=labels, classes=classes, paths=paths, indices=indices, uncertainty=uncertainty, notes=tuple(notes)
    )


def _first(columns: Mapping[str, Any], names: tuple[str, ...], num_rows: int, convert: Any, notes: list[str]) -> Any:
    """The first of the named columns that fits; if none does, why the first did not."""
    reasons = []
    for name in names:
        if columns.get(name) is None:
            continue
        try:
            return convert(columns[name], num_rows)
        except DataError as error:
            reasons.append(f"{name}{_shape(columns[name])} left out: {error.message}")
    notes += reasons[:1]
    return None


def _shape(value: Any) -> str:
    return f" {list(value.shape)}" if isinstance(value, np.ndarray) else ""


def _items(value: Any, num_rows: int) -> list[Any]:
    """A column as a list of plain values; what is missing is None."""
    if isinstance(value, np.ndarray):
        if value.size != num_rows or value.ndim == 0:
            raise DataError("one per row is needed")
        value = value.ravel().tolist()
    if not is_sequence(value):
        kind = "a text" if isinstance(value, str | bytes) else f"a {type(value).__name__}"
        raise DataError(f"it is {kind}, and one per row is needed")
    if len(value) != num_rows:
        raise DataError(f"{len(value)} for {num_rows} rows")
    return [_plain(item) for item in value]


def _plain(item: Any) -> Any:
    while isinstance(item, list | tuple) and len(item) == 1:
        item = item[0]
    if isinstance(item, np.ndarray) and item.size == 1:
        item = item.ravel()[0]
    if isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, bytes):
        return name_of(item)
    return None if isinstance(item, float) and math.isnan(item) else item


def _paths(value: Any, num_rows: int) -> tuple[str, ...]:
    """Names as text; numbers are names too, and a missing one is the number of its row."""
    items = _items(value, num_rows)
    if not all(item is None or isinstance(item, str | int | float) for item in items) or items.count(None) == num_rows:
        raise DataError("it is neither text nor numbers")
    as_text = [int(item) if isinstance(item, float) and item.is_integer() else item for item in items]
    return tuple(str(row) if item is None else str(item) for row, item in enumerate(as_text))


def _names(value: Any, num_rows: int) -> tuple[str, ...]:
    """Text only: numbers under such a name are as likely labels."""
    if not all(item is None or isinstance(item, str) for item in _items(value, num_rows)):
        raise DataError("it is not text")
    return _paths(value, num_rows)


def _classes(value: Any, num_rows: int) -> tuple[str, ...]:
    """Names of classes: a list, {name: number}, or {number: name}; empty if it is none of these."""
    if isinstance(value, dict) and value:
        if all(type(item) is int for item in value.values()):
            value = {number: name for name, number in value.items()}
        numbers = {int(key): item for key, item in value.items() if type(key) is int or name_of(key).isdecimal()}
        value = [numbers[number] for number in sorted(numbers)] if sorted(numbers) == list(range(len(value))) else None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not is_sequence(value):
        return ()
    names = [_plain(item) for item in value]
    is_column = len(names) == num_rows and len(set(map(str, names))) < num_rows
    return () if is_column or not all(isinstance(name, str) for name in names) else tuple(names)


def _repeated(value: Any, num_rows: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    items = _items(value, num_rows)
    if not all(isinstance(item, str) for item in items) or len(set(items)) == num_rows:
        raise DataError("each is there once")
    return _labels(items, num_rows, (), None)


def _numbered(value: Any, num_rows: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if any(isinstance(item, str) for item in _items(value, num_rows)):
        raise DataError("it is text")  # DeepFace calls a path so
    return _labels(value, num_rows, (), None)


def _labels(
    value: Any, num_rows: int, classes: tuple[str, ...], paths: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if isinstance(value, dict) and paths is not None and set(paths) <= value.keys():
        value = [value[path] for path in paths]
    table = _table(value, num_rows)
    if table is not None:
        return _one_hot(table), classes
    items = _items(value, num_rows)
    known = [item for item in items if item is not None and item != ""]
    if not known:
        raise DataError("none is known")
    if all(isinstance(item, str) for item in known):
        if not set(known) <= set(classes):
            classes = tuple(sorted(set(known)))
        number = {name: index for index, name in enumerate(classes)}
        return np.array([number.get(item, UNKNOWN) for item in items], dtype=np.int64), classes
    if not all(isinstance(item, int | float) for item in known):
        raise DataError("they are neither numbers nor text, one per row")
    labels = to_int64([UNKNOWN if item is None or item == "" else item for item in items], "labels")
    labels[labels == IGNORED] = UNKNOWN
    if (labels < UNKNOWN).any():
        raise DataError(f"a label is {labels.min()}; {UNKNOWN} and {IGNORED} mean unknown, others count from 0")
    return labels, classes


def _table(value: Any, num_rows: int) -> NDArray[Any] | None:
    """Several labels a row as an array [N, C], C > 1."""
    if is_sequence(value) and value and is_sequence(value[0]) and len(value[0]) > 1:
        if len({len(row) if is_sequence(row) else 0 for row in value}) != 1:
            raise DataError("one per row is needed")
        value = np.array(value)
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray) and value[0].size > 1:
        if len({item.shape if isinstance(item, np.ndarray) else () for item in value}) != 1:
            raise DataError("one per row is needed")
        value = np.stack(value)
    if not isinstance(value, np.ndarray) or value.size == num_rows:
        return None
    return value


def _one_hot(table: NDArray[Any]) -> NDArray[np.int64]:
    """The number of the class of each row [N, C] of zeros and a one."""
    if table.ndim != 2 or table.dtype.kind not in "biuf" or not np.isin(table, (0, 1)).all():
        raise DataError("one per row is needed")
    if (table.sum(axis=1) > 1).any():
        raise DataError("some rows have several labels, and one per row is needed")
    return np.where(table.any(axis=1), table.argmax(axis=1), UNKNOWN).astype(np.int64)


def _indices(value: Any, num_rows: int) -> NDArray[np.int64]:
    return to_int64(_items(value, num_rows), "they")


def _uncertainty(value: Any, num_rows: int) -> NDArray[np.float32]:
    return to_float32(_items(value, num_rows), "they")

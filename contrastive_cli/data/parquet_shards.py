"""Parquet files that hold pictures: in Hugging Face's layout a struct of bytes and path, else bytes, else paths.

Labels are the first column of a known name; where the schema names its classes (`ClassLabel`), these are the names.
A picture's row group is read when one of its rows is decoded, and the last few of them are kept.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.notes import note
from contrastive_cli.data.images import BadImage, Channels, Images, decode, decode_bytes
from contrastive_cli.data.shards import Label, Shard

SUFFIXES = (".parquet",)
PICTURE_COLUMNS = ("image", "img", "picture", "jpg", "png", "bytes", "image_bytes")
PATH_COLUMNS = ("path", "file_name", "filename", "filepath", "file", "image_path", *PICTURE_COLUMNS)
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "cls", "class_name", "category", "target", "identity")
METADATA = b"huggingface"
MOST_GROUP_BYTES = 4 << 30
ROWS_AT_ONCE = 64
GROUPS_KEPT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """The column of pictures, and whether it holds their bytes or their paths; nested in a struct or not."""

    name: str
    holds_bytes: bool
    nested: bool


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Groups:
    """The row groups that were read last, [rows] of bytes or None, for all threads and files."""

    kept: OrderedDict[tuple[Path, int], list[bytes | None]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def rows(self, path: Path, group: int, column: _Column) -> list[bytes | None]:
        """The pictures of a row group; read by one thread, for which the others wait."""
        with self.lock:
            if (path, group) not in self.kept:
                self.kept[path, group] = _read_group(path, group, column)
                while len(self.kept) > GROUPS_KEPT:
                    self.kept.popitem(last=False)
            self.kept.move_to_end((path, group))
            return self.kept[path, group]


def open_parquet_shard(path: Path, *, groups: Groups) -> Shard:
    """Read the schema and the labels of a file, whose row groups will be kept among `groups`.

    Raises:
        UsageError: If pyarrow is not installed.
        DataError: If it is damaged, or has no column of pictures.
    """
    pyarrow, parquet = _libraries()
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            column = _picture_column(pyarrow, schema)
            if column is None:
                raise DataError(
                    f"{os.fspath(path)!r} has no column of pictures; it has {', '.join(schema.names[:20])}",
                    hint=f"name a column of encoded pictures, or of paths, {PICTURE_COLUMNS[0]}",
                    path=path,
                )
            labels = _labels(file, schema)
            ends = np.cumsum([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
            paths = None if column.holds_bytes else _texts(file, column.name)
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        raise DataError(f"{os.fspath(path)!r} is no whole parquet file: {_one_line(error)}", path=path) from None
    names = tuple(f"{row:06d}" for row in range(len(labels)))
    if paths is not None:
        return Shard(names=names, labels=tuple(labels), decode=functools.partial(_decode_path, path.parent, paths))
    read = functools.partial(_decode_row, path, column, ends, groups)
    return Shard(names=names, labels=tuple(labels), decode=read)


def _picture_column(pyarrow: Any, schema: Any) -> _Column | None:
    is_bytes = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    is_text = (pyarrow.types.is_string, pyarrow.types.is_large_string)
    by_name = {name.lower(): schema.field(name) for name in reversed(schema.names)}
    for name in PICTURE_COLUMNS:
        if name in by_name:
            kind = by_name[name].type
            if pyarrow.types.is_struct(kind):
                inner = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
                if "bytes" in inner and any(test(inner["bytes"]) for test in is_bytes):
                    return _Column(name=by_name[name].name, holds_bytes=True, nested=True)
            elif any(test(kind) for test in is_bytes):
                return _Column(name=by_name[name].name, holds_bytes=True, nested=False)
    for name in PATH_COLUMNS:
        if name in by_name and any(test(by_name[name].type) for test in is_text):
            return _Column(name=by_name[name].name, holds_bytes=False, nested=False)
    return None


def _labels(file: Any, schema: Any) -> list[Label]:
    names = {name.lower(): name for name in reversed(schema.names)}
    chosen = next((names[name] for name in LABEL_COLUMNS if name in names), None)
    if chosen is None:
        return [None] * int(file.metadata.num_rows)
    classes = _class_names(schema.metadata or {}, chosen)
    values = [value for batch in file.iter_batches(columns=[chosen]) for value in batch.column(0).to_pylist()]
    labels = [_to_label(value, classes) for value in values]
    if set(labels) == {None} and any(value is not None for value in values):
        note(f"the column {chosen} holds no classes: they are text, whole numbers, or true and false")
    return labels


def _to_label(value: object, classes: Sequence[str]) -> Label:
    if isinstance(value, float) and value.is_integer():  # what pandas makes of whole numbers of which some are missing
        value = int(value)
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int | str) or value == "":
        return None
    if isinstance(value, str):
        return value[:200]
    if value < 0:
        return None
    return classes[value] if value < len(classes) else value


def _class_names(metadata: dict[bytes, bytes], column: str) -> tuple[str, ...]:
    """The names that Hugging Face's `ClassLabel` has in the metadata of the schema; none if it has not."""
    try:
        names = json.loads(metadata[METADATA])["info"]["features"][column]["names"]
        return tuple(names) if all(isinstance(name, str) for name in names) else ()
    except (LookupError, ValueError, TypeError, RecursionError):
        return ()


def _texts(file: Any, column: str) -> list[str | None]:
    return [value for batch in file.iter_batches(columns=[column]) for value in batch.column(0).to_pylist()]


def _read_group(path: Path, group: int, column: _Column) -> list[bytes | None]:
    pyarrow, parquet = _libraries()
    wanted = f"{column.name}.bytes" if column.nested else column.name
    rows: list[bytes | None] = []
    size = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[group], columns=[wanted]):
                size += batch.nbytes  # compressed bytes may grow without limit
                if size > MOST_GROUP_BYTES:
                    raise BadImage(path, f"row group {group} holds more than {MOST_GROUP_BYTES >> 30} GB")
                values = batch.column(0)
                rows += (values.field("bytes") if column.nested else values).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise BadImage(path, f"row group {group} is damaged: {_one_line(error)}") from None
    return rows


def _decode_row(
    path: Path,
    column: _Column,
    ends: Any,
    groups: Groups,
    index: int,
    size: int,
    channels: Channels,
    framing: Framing | None,
) -> Images:
    group = int(np.searchsorted(ends, index, side="right"))
    first = int(ends[group - 1]) if group else 0
    rows = groups.rows(path, group, column)
    content = rows[index - first] if index - first < len(rows) else None
    name = path / f"{index:06d}"
    if content is None:
        raise BadImage(name, "there is no picture in this row")
    return decode_bytes(content, name=name, size=size, channels=channels, framing=framing)


def _decode_path(
    root: Path, paths: Sequence[str | None], index: int, size: int, channels: Channels, framing: Framing | None
) -> Images:
    """A file may name pictures of its own folder only: it may come from a stranger."""
    text = paths[index]
    if not text or "\0" in text:
        raise BadImage(root, f"there is no path in row {index}")
    file = root / text
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root)):
        raise BadImage(file, f"it is outside of {os.fspath(root)!r}")
    return decode(file, size=size, channels=channels, framing=framing)


def _libraries() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        hint = "pip install 'contrastive-cli[parquet]'"
        raise UsageError("parquet files need pyarrow, which is not installed", hint=hint) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

"""Parquet: a column for every array with a value a row, the rest as JSON in the schema. Needs the extra `parquet`.

Strangers' files hold vectors as lists; columns of other types are passed over. Parquet compresses equal values without
limit, so a file is read in pieces and given up when they grow beyond what it may hold.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, UnsafeFileError, UsageError
from contrastive_cli.embeddings.wide_columns import gathered

MAGIC = b"PAR1"
METADATA = b"clr"
VALUES_PER_BATCH = 1 << 20
MAX_WIDTH = 1 << 20
MAX_ROWS_NAMED = 5


def encode(columns: Mapping[str, Any]) -> bytes:
    """The content of a file that holds our columns.

    Raises:
        UsageError: If pyarrow is not installed.
    """
    pyarrow, parquet = libraries()
    arrays = {name: value for name, value in columns.items() if isinstance(value, np.ndarray)}
    num_rows = len(next(value for value in arrays.values() if value.ndim == 2))
    stored: dict[str, Any] = {}
    for name, value in arrays.items():
        flat = pyarrow.array(value.ravel())
        stored[name] = flat if value.ndim == 1 else pyarrow.FixedSizeListArray.from_arrays(flat, value.shape[1])
    rest = {name: value for name, value in columns.items() if name not in stored}
    paths = columns.get("paths") or ()
    if len(paths) == num_rows:
        shown = [path.encode("utf-8", "backslashreplace").decode() for path in paths]
        stored["paths"] = pyarrow.array(shown, pyarrow.string())
        if shown == list(paths):  # names of no encoding fit into JSON only, which is what is read again
            del rest["paths"]
    table = pyarrow.table(stored).replace_schema_metadata({METADATA: json.dumps(rest).encode("ascii")})
    stream = io.BytesIO()
    parquet.write_table(table, stream, compression="none", use_dictionary=False)
    return stream.getvalue()


def decode(data: bytes, *, limit: int) -> dict[str, Any]:
    """The usable columns of a file, and what we put into its schema.

    Args:
        data: Its content.
        limit: Bytes that its columns may take.

    Raises:
        UsageError: If pyarrow is not installed.
        UnsafeFileError: If it would fill the memory.
        DataError: If no column holds vectors, or some rows of the only one have none.
        ValueError: If it is damaged, or a list column is ragged.
    """
    pyarrow, parquet = libraries()
    try:
        with parquet.ParquetFile(io.BytesIO(data)) as file:
            usable = [field.name for field in file.schema_arrow if _is_usable(pyarrow, field.type)]
            if len(set(usable)) < len(usable):
                raise ValueError("two columns have one name")
            metadata = (file.schema_arrow.metadata or {}).get(METADATA, b"{}")
            num_values = _count_values(file.metadata)
            _refuse_beyond(limit, 8 * num_values)
            batches, size = [], 0
            rows = max(1, VALUES_PER_BATCH * file.metadata.num_rows // max(1, num_values))  # the count may be forged
            for batch in file.iter_batches(batch_size=min(rows, VALUES_PER_BATCH), columns=usable):
                size += batch.nbytes
                _refuse_beyond(limit, size)
                batches.append(batch)
            schema = pyarrow.schema([file.schema_arrow.field(name) for name in usable])
            table = pyarrow.Table.from_batches(batches, schema=schema)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error
    columns = gathered({name: _values(pyarrow, table.column(name), name) for name in usable})
    if not any(isinstance(values, np.ndarray) and values.ndim == 2 for values in columns.values()):
        raise DataError(
            "no column holds vectors, which are lists of numbers of one length",
            hint="put the numbers of a row into one list column, or into columns embedding_0, embedding_1, ...",
        )
    return columns | dict(json.loads(metadata))


def _refuse_beyond(limit: int, size: int) -> None:
    if size > limit:
        raise UnsafeFileError("it would fill the memory", hint="write it again without compression")


def _count_values(metadata: Any) -> int:
    chunks = (
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    return sum(int(chunk.num_values) for chunk in chunks)


def _is_usable(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    if types.is_string(kind) or types.is_large_string(kind):
        return True
    if types.is_fixed_size_list(kind) and kind.list_size > MAX_WIDTH:
        return False
    is_vector = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    number = kind.value_type if is_vector else kind
    return bool(types.is_floating(number) or types.is_integer(number))


def _values(pyarrow: Any, column: Any, name: str) -> NDArray[Any] | list[str | None]:
    whole = column.combine_chunks()
    if pyarrow.types.is_string(whole.type) or pyarrow.types.is_large_string(whole.type):
        return [None if text is None else str(text) for text in whole.to_pylist()]
    if not hasattr(whole, "flatten") or not hasattr(whole.type, "value_type"):
        return np.array(whole.to_numpy(zero_copy_only=False))  # what is missing becomes NaN
    if whole.null_count:
        raise _missing(name, np.asarray(whole.is_null().to_numpy(zero_copy_only=False)))
    flat = whole.flatten()
    width = len(flat) // len(whole) if len(whole) else 0
    lengths = whole.value_lengths().to_numpy(zero_copy_only=False)
    if (lengths != width).any():
        raise ValueError(f"the vectors of column {name!r} differ in length")
    if flat.null_count:
        is_null = np.asarray(flat.is_null().to_numpy(zero_copy_only=False))
        raise _missing(name, np.any(is_null.reshape(len(whole), width), axis=1))
    return np.array(flat.to_numpy(zero_copy_only=False)).reshape(len(whole), width)


def _missing(name: str, is_missing: Any) -> DataError:
    rows = np.flatnonzero(is_missing).tolist()
    named = ", ".join(map(str, rows[:MAX_ROWS_NAMED])) + (", ..." if len(rows) > MAX_ROWS_NAMED else "")
    return DataError(
        f"column {name!r} has missing values in {len(rows)} of {len(is_missing)} rows: rows {named}",
        hint="embed these again, or leave them out: frame.dropna().to_parquet('x.parquet')",
    )


def libraries() -> tuple[Any, Any]:
    """pyarrow, and its reader and writer.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("parquet files need pyarrow", hint="install the extra `parquet`, or use .npz") from None
    return pyarrow, parquet

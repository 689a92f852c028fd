"""Parquet files of others, and those that are damaged, ragged or would fill the memory."""

from __future__ import annotations

import contextlib
import random
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from contrastive_cli.core.errors import DataError, UnsafeFileError, UsageError
from contrastive_cli.embeddings.files import Embeddings, read_embeddings, write_embeddings

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]]


def written(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    "vectors",
    [
        pa.array(ROWS),
        pa.array(ROWS, pa.large_list(pa.float64())),
        pa.array(ROWS, pa.list_(pa.float32(), 2)),
        pa.array([[np.float16(value) for value in row] for row in ROWS], pa.list_(pa.float16())),
        pa.chunked_array([ROWS[:1], ROWS[1:]]),
    ],
    ids=["list", "large", "fixed", "half", "chunks"],
)
def test_read_embeddings__lists_of_others(tmp_path: Path, vectors: Any) -> None:
    columns = {"vector": vectors, "label": [0, 2, 1], "path": ["a", "b", "c"], "when": pa.array([1, 2, 3], pa.date32())}
    columns["embedding"] = columns.pop("vector")
    found = read_embeddings(written(tmp_path / "x.parquet", columns, compression="zstd", row_group_size=2))
    assert found.vectors.tolist() == ROWS
    assert found.labels is not None
    assert found.labels.tolist() == [0, 2, 1]
    assert found.paths == ("a", "b", "c")


def test_write_embeddings__others_read_it(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "x.parquet", Embeddings(vectors=np.array(ROWS, np.float32), paths=("a", "b", "c")))
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column("embeddings").to_pylist() == ROWS
    assert table.column("paths").to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([[1.0], [2.0, 3.0]], "differ in length"),
        ([[1.0], None], "missing values in 1 of 2 rows: rows 1"),
        ([[1.0], [None]], "missing values in 1 of 2 rows: rows 1"),
    ],
)
def test_read_embeddings__ragged_or_missing(tmp_path: Path, vectors: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_embeddings(written(tmp_path / "x.parquet", {"embeddings": vectors}))


def test_read_embeddings__equal_values_without_end_are_refused(tmp_path: Path) -> None:
    """A table of 320 MB in a file of some kilobytes."""
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(80_000_000, np.float32)), 8)
    path = written(tmp_path / "x.parquet", {"embeddings": rows}, compression="zstd")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UnsafeFileError, match="would fill the memory"):
        read_embeddings(path)


def test_read_embeddings__few_long_equal_rows_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """Less than a batch of rows, and 160 MB of zeros."""
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(40_000_000, np.float32)), 1_000_000)
    path = written(tmp_path / "x.parquet", {"embeddings": rows}, compression="zstd")
    del rows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnsafeFileError, match="would fill the memory"):
        read_embeddings(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_read_embeddings__a_column_for_every_dimension(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", {"f0": [1.0, 2.0, 3.0], "f1": [4.0, 5.0, 6.0], "label": [0, 1, 0]})
    found = read_embeddings(path)
    assert found.vectors.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 0]


def test_read_embeddings__no_vectors(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", {"width": [1.0, 2.0], "height": [3.0, 4.0], "label": [0, 1]})
    with pytest.raises(DataError, match="no column holds vectors"):
        read_embeddings(path)


def test_read_embeddings__missing_values_beside_the_vectors(tmp_path: Path) -> None:
    columns = {"embedding": ROWS, "path": ["a", None, "c"], "label": [0, None, 1], "width": [None, 2.5, 1.0]}
    found = read_embeddings(written(tmp_path / "x.parquet", columns))
    assert found.vectors.tolist() == ROWS
    assert found.paths == ("a", "1", "c")
    assert found.labels is not None
    assert found.labels.tolist() == [0, -1, 1]


def test_read_embeddings__two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.table([pa.array(ROWS), pa.array(ROWS)], names=["embeddings", "embeddings"])
    parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="two columns have one name"):
        read_embeddings(tmp_path / "x.parquet")


def test_write_embeddings__names_of_no_encoding(tmp_path: Path) -> None:
    paths = ("caf\udce9.png", "\ud800", "c")
    write_embeddings(tmp_path / "x.parquet", Embeddings(vectors=np.array(ROWS, np.float32), paths=paths))
    assert read_embeddings(tmp_path / "x.parquet").paths == paths


def test_read_embeddings__damage_is_an_error_of_data(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_embeddings(path, Embeddings(vectors=np.array(ROWS * 20, np.float32), labels=np.arange(60)))
    whole, draws = path.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draws.randrange(1, 4)):
            damaged[draws.randrange(4, len(whole))] = draws.randrange(256)
        path.write_bytes(bytes(damaged[: draws.randrange(5, len(whole) + 1)] if draws.random() < 0.3 else damaged))
        with contextlib.suppress(DataError, UnsafeFileError):
            read_embeddings(path)


def test_read_embeddings__without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.parquet", {"embeddings": ROWS})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="need pyarrow"):
        read_embeddings(path)

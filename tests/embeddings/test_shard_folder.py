"""Folders of shards: what is written is read again, by others too; a folder that is not whole or lies is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from pyarrow import parquet

from contrastive_cli.core.errors import DataError, RunError, UnsafeFileError
from contrastive_cli.embeddings import shard_folder, shard_index
from contrastive_cli.embeddings.files import Embeddings, read_embeddings, write_embeddings
from contrastive_cli.embeddings.pieces import release
from contrastive_cli.embeddings.shard_folder import write_shard, write_space
from contrastive_cli.embeddings.shard_index import Shard, is_whole, read_index, remove_shards, shard_file, write_index
from contrastive_cli.embeddings.space import measure_space

ROWS, WIDTH = 23, 5


def some_embeddings(rows: int = ROWS, *, seed: int = 0) -> Embeddings:
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((rows, WIDTH)).astype(np.float32)
    return Embeddings(
        vectors=vectors,
        labels=generator.integers(-1, 3, rows),
        classes=("a", "b", "c"),
        paths=tuple(f"folder/{row}.png" for row in range(rows)),
        indices=np.arange(rows),
        uncertainty=generator.random(rows).astype(np.float32),
        model={"run": "r", "layer": "h", "space": "raw", "exponent": 0.5},
        preprocess={"size": 8},
        dataset={"name": "d", "split": "test"},
        space=measure_space(vectors, exponent=0.5),
    )


def rows_of(embeddings: Embeddings, rows: slice) -> Embeddings:
    assert embeddings.paths is not None
    columns = {name: getattr(embeddings, name)[rows] for name in ("vectors", "labels", "indices", "uncertainty")}
    return replace(embeddings, paths=embeddings.paths[rows], **columns)


def write_folder(folder: Path, embeddings: Embeddings, *, rows: int = 10, finished: bool = True) -> list[Shard]:
    starts = range(0, len(embeddings.vectors), rows)
    shards = [
        write_shard(folder, number, rows_of(embeddings, slice(start, start + rows)))
        for number, start in enumerate(starts)
    ]
    space = None if embeddings.space is None else write_space(folder, embeddings.space)
    write_index(folder, of={"run": "r"}, space=space, shards=shards, finished=finished)
    return shards


def assert_same(found: Embeddings, expected: Embeddings) -> None:
    for name in ("vectors", "labels", "indices", "uncertainty"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    for name in ("paths", "classes", "model", "preprocess", "dataset"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.space is not None
    assert expected.space is not None
    assert np.array_equal(found.space.axes, expected.space.axes)


def change_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "index.json"
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(index))


def test_read_embeddings__a_folder_is_its_shards_one_after_the_other(tmp_path: Path) -> None:
    embeddings = some_embeddings()
    shards = write_folder(tmp_path / "x", embeddings)
    assert [shard.rows for shard in shards] == [10, 10, 3]
    assert_same(read_embeddings(tmp_path / "x"), embeddings)
    assert all(is_whole(tmp_path / "x", shard) for shard in shards)


def test_read_embeddings__many_are_a_memory_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = some_embeddings()
    write_folder(tmp_path / "x", embeddings)
    monkeypatch.setattr(shard_folder, "MAPPED_BYTES", 4 * ROWS * WIDTH)
    found = read_embeddings(tmp_path / "x")
    assert isinstance(found.vectors, np.memmap)
    assert not found.vectors.flags.writeable
    release(found.vectors)
    assert_same(found, embeddings)


def test_read_embeddings__no_room_for_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "x", some_embeddings())
    monkeypatch.setattr(shard_folder, "MAPPED_BYTES", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(RunError, match=r"no room in .*absent to unpack"):
        read_embeddings(tmp_path / "x")


def test_write_shard__all_have_one_schema_and_databases_read_them(tmp_path: Path) -> None:
    embeddings = some_embeddings()
    write_folder(tmp_path / "x", embeddings)
    first, *others = (parquet.read_schema(tmp_path / "x" / shard_file(number)) for number in range(3))
    assert all(first.equals(other, check_metadata=True) for other in others)
    found = duckdb.sql(f"select paths, embeddings, labels from '{tmp_path}/x/*.parquet' order by indices")
    assert found is not None
    rows = found.fetchall()
    assert [row[0] for row in rows] == list(embeddings.paths or ())
    assert np.array_equal(np.array([row[1] for row in rows], np.float32), embeddings.vectors)
    assert [row[2] for row in rows] == embeddings.labels.tolist()  # type: ignore[union-attr]


def test_write_shard__names_of_no_encoding_keep_the_columns(tmp_path: Path) -> None:
    embeddings = some_embeddings(4)
    paths = ("caf\udce9.png", "b", "c", "d")
    shards = [write_shard(tmp_path, 0, replace(embeddings, paths=paths), left_out=[("\udcff.png", "empty")])]
    shards.append(write_shard(tmp_path, 1, embeddings))
    write_index(tmp_path, of={"first": paths[0]}, space=None, shards=shards, finished=True)
    first, second = (parquet.read_schema(tmp_path / shard_file(number)) for number in range(2))
    assert first.equals(second)
    assert read_embeddings(tmp_path).paths == (*paths, *(embeddings.paths or ()))
    index = read_index(tmp_path)
    assert index.of == {"first": paths[0]}
    assert index.shards[0].left_out[0].path == "\\udcff.png"


def test_write_shard__without_a_readable_image_there_is_no_file(tmp_path: Path) -> None:
    embeddings = some_embeddings(4)
    shards = [write_shard(tmp_path, 0, None, left_out=[("x.png", "empty")]), write_shard(tmp_path, 1, embeddings)]
    assert embeddings.space is not None
    write_index(tmp_path, of={}, space=write_space(tmp_path, embeddings.space), shards=shards, finished=True)
    assert not (tmp_path / shard_file(0)).exists()
    assert_same(read_embeddings(tmp_path), embeddings)


def test_read_embeddings__damage_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, some_embeddings())
    file = tmp_path / shard_file(1)
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(DataError, match=r"shard-00001\.parquet is damaged: its sum is another"):
        read_embeddings(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=r"shard-00001\.parquet is missing"):
        read_embeddings(tmp_path)


def test_read_embeddings__damage_of_the_space(tmp_path: Path) -> None:
    write_folder(tmp_path, some_embeddings())
    file = tmp_path / "space.npz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"space\.npz is damaged: its sum is another"):
        read_embeddings(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=r"space\.npz is missing"):
        read_embeddings(tmp_path)
    np.savez(file, other=np.eye(2))
    sums = {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    change_index(tmp_path, lambda index: index["space"].update(sums))
    with pytest.raises(DataError, match=r"space\.npz holds no space"):
        read_embeddings(tmp_path)


def test_read_embeddings__an_unfinished_folder_is_none(tmp_path: Path) -> None:
    write_folder(tmp_path, some_embeddings(), finished=False)
    with pytest.raises(DataError, match="not finished: it holds 23 embeddings so far"):
        read_embeddings(tmp_path)


def test_read_embeddings__a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"is a folder without index\.json, not embeddings"):
        read_embeddings(tmp_path)


def test_read_embeddings__shards_of_two_kinds(tmp_path: Path) -> None:
    embeddings = some_embeddings()
    write_folder(tmp_path, embeddings)
    for other in (
        replace(embeddings, labels=None),
        replace(embeddings, model={**embeddings.model, "run": "other"}),
    ):
        shard = write_shard(tmp_path, 1, other)
        shards = [shard if shard.number == old.number else old for old in read_index(tmp_path).shards]
        write_index(tmp_path, of={}, space=None, shards=shards, finished=True)
        with pytest.raises(DataError, match=r"shard-00001\.parquet is of another kind than the first shard"):
            read_embeddings(tmp_path)


@pytest.mark.parametrize("name", ["../secret.parquet", "/etc/passwd", "shard-00001.parquet/../x", "x.parquet", ""])
def test_read_embeddings__an_index_names_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, some_embeddings())
    change_index(tmp_path, lambda index: index["shards"][1].update(file=name))
    with pytest.raises(DataError, match="is no index of embeddings"):
        read_embeddings(tmp_path)


def test_read_embeddings__an_index_that_lies_of_its_rows(tmp_path: Path) -> None:
    write_folder(tmp_path, some_embeddings())
    change_index(tmp_path, lambda index: index["shards"][1].update(rows=10**12))
    with pytest.raises(DataError, match=r"shard-00001\.parquet has 10 rows, not 1000000000000"):
        read_embeddings(tmp_path)


def test_read_embeddings__a_shard_named_twice(tmp_path: Path) -> None:
    write_folder(tmp_path, some_embeddings())
    change_index(tmp_path, lambda index: index["shards"].append(index["shards"][0]))
    with pytest.raises(DataError, match="names a shard twice"):
        read_embeddings(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"schema": "clr-embeddings/1"}', "[" * 100_000])
def test_read_index__any_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DataError, match="is no index of embeddings"):
        read_index(tmp_path)


def test_read_index__is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, some_embeddings())
    monkeypatch.setattr(shard_index, "MAX_INDEX_BYTES", 100)
    with pytest.raises(UnsafeFileError, match="is larger than"):
        read_index(tmp_path)


def test_remove_shards__nothing_else(tmp_path: Path) -> None:
    write_folder(tmp_path, some_embeddings())
    write_embeddings(tmp_path / "own.parquet", some_embeddings())
    remove_shards(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["own.parquet"]

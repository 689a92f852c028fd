"""The table of a map has the columns that Embedding Atlas reads."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from contrastive_cli.viz.embedding_map import EmbeddingMap, Names, Numbers, Thumbnails
from contrastive_cli.viz.map_table import write_map_table


def table_map() -> EmbeddingMap:
    points = np.array([[0, 1], [2, 3], [4, 5]], np.float32)
    return EmbeddingMap(
        coordinates={"umap": points, "pca": points + 10},
        chosen=np.array([4, 7, 9]),
        total=10,
        labels=np.array([1, -1, 0]),
        classes=("cat", "dog"),
        paths=("a.png", "b\udcff.png", "c.png"),
        neighbors=np.array([[1, 2], [0, 2], [1, 0]]),
        similarities=np.array([[0.75, 0.5]] * 3, np.float32),
        uncertainty=np.array([0.1, 0.2, 0.3], np.float32),
        thumbnails=Thumbnails(pixels=np.full((3, 3, 8, 8), 200, np.uint8), present=np.array([True, False, True])),
        columns={
            "class": Names(codes=np.array([0, -1, 0], np.int32), names=("own",)),
            "height": Numbers(values=np.array([1.5, np.nan, 2], np.float32)),
        },
    )


def test_write_map_table__columns_of_embedding_atlas(tmp_path: Path) -> None:
    path = tmp_path / "map.parquet"
    write_map_table([table_map()], path)
    table = parquet.read_table(path)
    rows = table.to_pylist()
    assert [(row["x"], row["y"], row["x_pca"], row["y_pca"]) for row in rows][1] == (2, 3, 12, 13)
    assert rows[0]["neighbors"] == {"ids": [1, 2], "distances": [0.25, 0.5]}
    assert table.schema.field("image").type == pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    assert Image.open(io.BytesIO(rows[0]["image"]["bytes"])).size == (8, 8)
    assert [row["image"] and row["image"]["path"] for row in rows] == ["a.png", None, "c.png"]
    assert [row["path"] for row in rows] == ["a.png", "b\\udcff.png", "c.png"]
    assert [row["class"] for row in rows] == ["dog", None, "cat"]
    assert [row["class_"] for row in rows] == ["own", None, "own"]
    assert [row["height"] for row in rows] == [1.5, None, 2]
    assert [row["index"] for row in rows] == [4, 7, 9]


@pytest.mark.parametrize("gone", ["labels", "paths", "thumbnails", "uncertainty"])
def test_write_map_table__what_is_not_known_is_no_column(tmp_path: Path, gone: str) -> None:
    path = tmp_path / "map.parquet"
    write_map_table([replace(table_map(), columns={}, **{gone: None})], path)  # type: ignore[arg-type]
    column = {"labels": "class", "paths": "path", "thumbnails": "image"}.get(gone, gone)
    names = parquet.read_table(path).column_names
    assert column not in names
    assert {"x", "y", "neighbors"} <= set(names)

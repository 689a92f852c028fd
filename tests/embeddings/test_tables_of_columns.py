"""Tables whose columns are no vectors: they are never read as one vector a column, whatever format they come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.files import read_embeddings

ROWS = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "csv": lambda frame, file: frame.to_csv(file, index=False),
    "csv with the index": lambda frame, file: frame.to_csv(file),
    "json": lambda frame, file: frame.to_json(file),
    "json of records": lambda frame, file: frame.to_json(file, orient="records"),
    "json lines": lambda frame, file: frame.to_json(file, orient="records", lines=True),
    "json, split": lambda frame, file: frame.to_json(file, orient="split"),
    "parquet": lambda frame, file: frame.to_parquet(file),
}


def written(folder: Path, writer: str, columns: list[str], before: dict[str, Any]) -> Path:
    import pandas as pd

    file = folder / ("t.parquet" if writer == "parquet" else "t.csv" if writer.startswith("csv") else "t.json")
    frame = pd.DataFrame(ROWS, columns=columns)
    for name, column in before.items():
        frame.insert(0, name, column)
    WRITERS[writer](frame, file)
    return file


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("names", [["a", "b", "c"], ["x", "y", "z"], ["umap_x", "umap_y", "umap_z"]])
@pytest.mark.parametrize("before", [{"id": range(60)}, {"species": [0, 1, 2] * 20}, {}], ids=["id", "label", "alone"])
def test_read_embeddings__refuses_columns_that_say_nothing_of_a_vector(
    writer: str, names: list[str], before: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read_embeddings(written(tmp_path, writer, names, before))
    assert caught.value.hint is not None


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("prefix", ["pc", "dim", "embedding_"])
@pytest.mark.parametrize("before", [{"id": range(60)}, {"species": [0, 1, 2] * 20}, {}], ids=["id", "label", "alone"])
def test_read_embeddings__numbered_columns_are_the_vector_and_nothing_else_is(
    writer: str, prefix: str, before: dict[str, Any], tmp_path: Path
) -> None:
    found = read_embeddings(written(tmp_path, writer, [f"{prefix}{number}" for number in (1, 2, 3)], before))
    np.testing.assert_allclose(found.vectors, ROWS, rtol=1e-5, atol=1e-7)

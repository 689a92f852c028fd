"""Embeddings as a data frame: of pandas where it is installed, else of pyarrow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from contrastive_cli.core.errors import UsageError
from contrastive_cli.embeddings.result_tables import label_of

if TYPE_CHECKING:
    from contrastive_cli.embeddings.files import Embeddings


def to_frame(embeddings: Embeddings) -> Any:
    """A row an image: path, label, index and uncertainty where there are any, and embedding_0, embedding_1, ...

    Labels are the names of their classes, or their numbers where classes have no names.

    Returns:
        A `pandas.DataFrame`, or without pandas a `pyarrow.Table`.

    Raises:
        UsageError: If neither is installed.
    """
    rows, width = embeddings.vectors.shape
    columns: dict[str, Any] = {}
    if embeddings.paths is not None:
        columns["path"] = list(embeddings.paths)
    if embeddings.labels is not None:
        columns["label"] = [label_of(embeddings, row) for row in range(rows)]
    if embeddings.indices is not None:
        columns["index"] = embeddings.indices
    if embeddings.uncertainty is not None:
        columns["uncertainty"] = embeddings.uncertainty
    names = [f"embedding_{number}" for number in range(width)]
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        return _arrow_table(columns | dict(zip(names, embeddings.vectors.T, strict=True)))
    vectors = pandas.DataFrame(embeddings.vectors, columns=names)
    return pandas.concat([pandas.DataFrame(columns, index=vectors.index), vectors], axis=1)


def _arrow_table(columns: dict[str, Any]) -> Any:
    try:
        pyarrow = importlib.import_module("pyarrow")
    except ImportError:
        hint = "pip install pandas, or pip install 'contrastive-cli[parquet]'"
        raise UsageError("a frame needs pandas or pyarrow", hint=hint) from None
    return pyarrow.table(columns)

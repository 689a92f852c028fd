"""Tables with a column for every dimension: `embedding_0`, `embedding_1`, ... or `0`, `1`, ..."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError

EMBEDDINGS = (
    "embeddings", "embedding", "embs", "emb", "embeds", "embed", "features", "feature", "feats", "feat", "vectors",
    "vector", "vecs", "vec", "encodings", "encoding", "representations", "representation", "reps", "rep", "descriptors",
    "descriptor", "latents", "latent", "codes", "code", "x",
)  # fmt: skip

_NUMBERED = re.compile(r"(.*?)[\s_.:\-\[(]*(\d{1,7})[\])]?")
HINT = "name the columns of the vector embedding_0, embedding_1, ... and leave the others out"


class Columns(dict[str, Any]):
    """The columns of a table by name: the values of a column belong to as many rows, and a column is no vector."""


def numbered_columns(
    table: Mapping[Any, Any], *, of_rows: bool = True
) -> tuple[NDArray[np.float32], set[Any], str] | None:
    """The matrix of the columns that are numbered from 0 or 1 without a gap; None if there are none.

    Their keys and what stands before the number come with it. Of several groups, one with a usual name is taken.

    Args:
        table: Columns by name; with `of_rows` false a single row, of which only the names are looked at.
        of_rows: Whether the values are columns.

    Raises:
        DataError: If several groups could be meant.
    """
    groups: dict[str, dict[int, Any]] = {}
    for key in table:
        matched = _NUMBERED.fullmatch(str(key)) if isinstance(key, str | int) else None
        if matched:
            groups.setdefault(matched[1].strip().lower(), {})[int(matched[2])] = key
    whole = {
        prefix: [numbers[number] for number in sorted(numbers)]
        for prefix, numbers in groups.items()
        if len(numbers) > 1 and max(numbers) - min(numbers) + 1 == len(numbers) and min(numbers) in (0, 1)
    }
    if of_rows:
        whole = {prefix: keys for prefix, keys in whole.items() if all(_is_column(table[key]) for key in keys)}
    if len(whole) > 1:
        chosen = [prefix for prefix in EMBEDDINGS if prefix in whole]
        if not chosen:
            names = ", ".join(f"{prefix or '(number)'} ({len(keys)})" for prefix, keys in list(whole.items())[:5])
            raise DataError(f"several groups of numbered columns could be the vector: {names}", hint=HINT)
        whole = {chosen[0]: whole[chosen[0]]}
    if not whole:
        return None
    ((prefix, keys),) = whole.items()
    if not of_rows:
        return np.empty((0, len(keys)), np.float32), set(keys), prefix
    columns = [np.asarray(table[key], dtype=np.float32).ravel() for key in keys]
    if len({len(column) for column in columns}) != 1:
        return None
    return np.stack(columns, axis=1), set(keys), prefix


def gathered(table: Mapping[str, Any]) -> Columns:
    """The table with its numbered columns as one matrix `embeddings`, if it has such and no matrix yet."""
    has_vectors = any(isinstance(column, np.ndarray) and column.ndim == 2 for column in table.values())
    found = None if has_vectors else numbered_columns(table)
    if found is None:
        return Columns(table)
    matrix, used, _ = found
    return Columns({"embeddings": matrix, **{name: column for name, column in table.items() if name not in used}})


def columns_by_row(value: Mapping[Any, Any], *, most: int) -> Columns | None:
    """The columns of what `frame.to_dict()` and `frame.to_json()` give: for every column a dict of rows by number.

    Args:
        value: What may be that; None is returned if it is not, or as well dimensions by number of rows by number.
        most: Values of all columns.
    """
    first = next(iter(value.values()), None)
    if not isinstance(first, dict) or not first or len(first) * len(value) > most:
        return None
    if [str(key) for key in first] != [str(number) for number in range(len(first))]:
        return None
    if all(str(key).isdecimal() for key in value):
        return None
    if not all(isinstance(column, dict) and column.keys() == first.keys() for column in value.values()):
        return None
    return Columns({key: list(column.values()) for key, column in value.items()})


def _is_column(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "biuf"
    kinds = (int, float, np.integer, np.floating)
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(issubclass(kind, kinds) for kind in set(map(type, value)))
    )

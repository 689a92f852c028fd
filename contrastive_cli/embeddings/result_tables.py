"""Embeddings, neighbors and similarities as CSV or JSON lines, for spreadsheets and scripts; `.csv` is read again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.files import harmless_cell, harmless_path, write_atomically

if TYPE_CHECKING:
    from contrastive_cli.embeddings.files import Embeddings


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str], paths: Sequence[str]) -> str:
    """Write rows as the suffix says; the columns `paths` hold paths. Returns the sha256.

    Raises:
        RunError: If the file cannot be written.
    """
    if path.suffix.lower() == ".jsonl":
        lines = (json.dumps({name: row[name] for name in columns}) + "\n" for row in rows)
        return write_atomically(path, "".join(lines).encode("ascii"))
    written = [_line(columns)]
    written += [_line([_cell(row[name], is_path=name in paths) for name in columns]) for row in rows]
    return write_atomically(path, "".join(f"{line}\n" for line in written).encode("utf-8", "surrogateescape"))


def write_embeddings_table(path: Path, embeddings: Embeddings) -> str:
    """Write a row an image: path, label, uncertainty where there is one, and the vector. Returns the sha256.

    Raises:
        RunError: If the file cannot be written.
    """
    names = [name for name in ("path", "label", "uncertainty") if _has(embeddings, name)]
    if path.suffix.lower() == ".jsonl":
        rows = (facts | {"embedding": _rounded(vector)} for facts, vector in _rows(embeddings))
        return write_table(path, rows, columns=[*names, "embedding"], paths=())
    # Formatted a row at a time: a cell at a time takes five times as long.
    form = ",".join(["%.9g"] * embeddings.vectors.shape[1])
    text = io.StringIO()
    text.write(_line([*names, *(f"embedding_{number}" for number in range(embeddings.vectors.shape[1]))]) + "\n")
    for facts, vector in _rows(embeddings):
        if names:
            text.write(_line([_cell(facts[name], is_path=name == "path") for name in names]) + ",")
        text.write(form % tuple(vector.tolist()) + "\n")
    return write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _line(cells: Sequence[Any]) -> str:
    """A row of CSV; Python quotes those signs of a line break only that end a row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n")


def _has(embeddings: Embeddings, name: str) -> bool:
    column = {"path": embeddings.paths, "label": embeddings.labels, "uncertainty": embeddings.uncertainty}[name]
    return column is not None


def _rows(embeddings: Embeddings) -> Iterable[tuple[dict[str, Any], NDArray[np.float32]]]:
    for row, vector in enumerate(embeddings.vectors):
        facts: dict[str, Any] = {}
        if embeddings.paths is not None:
            facts["path"] = embeddings.paths[row]
        if embeddings.labels is not None:
            facts["label"] = label_of(embeddings, row)
        if embeddings.uncertainty is not None:
            facts["uncertainty"] = _rounded(embeddings.uncertainty[row : row + 1])[0]
        yield facts, vector


def label_of(embeddings: Embeddings, row: int) -> str | int | None:
    """The name of the class of a row, or its number where classes have no names; None where it is unknown."""
    if embeddings.labels is None or embeddings.labels[row] < 0:
        return None
    number = int(embeddings.labels[row])
    return embeddings.classes[number] if number < len(embeddings.classes) else number


def _rounded(numbers: NDArray[np.floating[Any]]) -> list[float]:
    """As short as float32 can be told apart."""
    return [float(f"{number:.9g}") for number in numbers.tolist()]


def _cell(value: Any, *, is_path: bool) -> Any:
    if isinstance(value, str):
        return harmless_path(value) if is_path else harmless_cell(value)
    return f"{value:.9g}" if isinstance(value, float) else value

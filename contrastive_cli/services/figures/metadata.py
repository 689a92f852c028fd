"""A table about images, read from CSV and joined by their paths: numbers stay numbers, all else are names."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.files import delimiter_of, harmless_cell
from contrastive_cli.viz.embedding_map import Column, Names, Numbers

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "name")
MOST_PARTS = 8  # of a path, from its end, by which an image is looked for
FEW_NUMBERS = 12  # whole numbers of so few values are names of groups rather than amounts


def read_metadata(file: Path, *, paths: Sequence[str] | None) -> tuple[Mapping[str, Column], str]:
    """The columns of a CSV file for the images of these paths, in their order.

    The images are found by the column named path, file or the like, else by the first: by the whole path, else by as
    many of its last parts as both have in common, where they are unique.

    Returns:
        The other columns by name; and in words how many images the table does not know.

    Raises:
        DataError: If the file cannot be read, has no columns, or knows none of the images.
    """
    if paths is None:
        raise DataError(
            "the embeddings name no images, so --metadata cannot be joined to them",
            hint="embed with `clr embed`, which keeps the paths, or leave out --metadata",
            path=file,
        )
    header, rows = _read_table(file)
    key = next((header.index(name) for name in PATH_COLUMNS if name in header), 0)
    found = _join(paths, [row[key] for row in rows])
    known = [place for place in found if place is not None]
    if not known:
        raise DataError(
            f"{file}: column {header[key]!r} names none of the {len(paths)} images; it has {rows[0][key]!r}, "
            f"they have {paths[0]!r}",
            hint=f"put the images' paths into a column `{PATH_COLUMNS[0]}`",
            path=file,
        )
    columns = {
        name or f"column {number + 1}": _column(["" if place is None else rows[place][number] for place in found])
        for number, name in enumerate(header)
        if number != key
    }
    missing = len(paths) - len(known)
    return columns, f"{missing} of {len(paths)} images are not in {file.name}" if missing else ""


def _read_table(file: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", path=file) from None
    except UnicodeDecodeError:
        raise DataError(f"{file} is no CSV file in UTF-8", hint="save it as CSV, UTF-8", path=file) from None
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True)
        table = [row for row in rows if row]
    except csv.Error as error:
        raise DataError(f"{file} is no CSV file: {error}", path=file) from None
    if len(table) < 2 or len(table[0]) < 2:
        raise DataError(f"{file} needs a line of column names, a column of paths, another column, and rows", path=file)
    header = [name.strip() for name in table[0]]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file} has two columns named {twice!r}", path=file)
    for number, row in enumerate(table[1:], 2):
        if len(row) != len(header):
            raise DataError(f"{file}: row {number} has {len(row)} cells, the first has {len(header)}", path=file)
    return header, table[1:]


def _join(paths: Sequence[str], keys: Sequence[str]) -> list[int | None]:
    """For each path the row of the table, or None; of rows with one path the first counts."""
    whole: dict[str, int] = {}
    for row, key in enumerate(keys):
        whole.setdefault(key, row)
    # A table that `clr` wrote has a quote before what a spreadsheet would run.
    exact = [whole.get(path, whole.get(harmless_cell(path))) for path in paths]
    if any(row is not None for row in exact):
        return exact
    for parts in range(MOST_PARTS, 0, -1):
        rows, known = _unique_ends(keys, parts), _unique_ends(paths, parts)
        found = [rows.get(end) if (end := _end(path, parts)) in known else None for path in paths]
        if any(row is not None for row in found):
            return found
    return exact


def _unique_ends(paths: Sequence[str], parts: int) -> dict[str, int]:
    found: dict[str, int] = {}
    twice = set()
    for row, path in enumerate(paths):
        end = _end(path, parts)
        if found.setdefault(end, row) != row:
            twice.add(end)
    return {end: row for end, row in found.items() if end not in twice}


def _end(path: str, parts: int) -> str:
    """`beach/0.jpg` of `photos/beach/0.jpg` for two parts."""
    return "/".join(PurePosixPath(path.replace("\\", "/")).parts[-parts:])


def _column(cells: Sequence[str]) -> Column:
    numbers = [_number(cell) for cell in cells]
    given = [number for number, cell in zip(numbers, cells, strict=True) if cell.strip()]
    if given and None not in given:
        values = {number for number in given if number is not None}
        if len(values) > FEW_NUMBERS or any(not value.is_integer() for value in values):
            filled = [math.nan if number is None else number for number in numbers]
            return Numbers(values=np.array(filled, np.float32))
        ordered = sorted({cell.strip() for cell in cells if cell.strip()}, key=float)
    else:
        ordered = sorted({cell.strip() for cell in cells if cell.strip()})
    code = {name: number for number, name in enumerate(ordered)}
    return Names(codes=np.array([code.get(cell.strip(), -1) for cell in cells], np.int32), names=tuple(ordered))


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e38 else None

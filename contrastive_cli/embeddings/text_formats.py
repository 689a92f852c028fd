"""Text: CSV, TSV and other tables, JSON and JSON lines, brought to plain Python and numpy values.

Vectors stand in one column each, or, as pandas writes a column of arrays, within brackets in one cell.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, UnsafeFileError
from contrastive_cli.embeddings.wide_columns import gathered

MAX_BYTES = 2 << 30
ROWS_PER_BLOCK = 2048
HEADERS = ("path", "label")  # of columns of text in a table without a header
SHORTENED_HINT = "write them whole: pandas.to_pickle(frame.reset_index().to_dict('list'), 'x.pkl')"

_LOOKED_AT = 4096
_MOST_ODD = 0.05  # part of the characters that text may have unprintable
_MISSING = ("", "nan", "na", "n/a", "null", "none", "<na>")
_DELIMITERS = (",", "\t", ";", "|")
_BRACKETS = re.compile(r"[\[\](),]|\b(?:array|tensor)\b|dtype=[\w.]+")

Column = NDArray[np.float64] | list[Any]


def as_text(data: bytes) -> str | None:
    """The content as text, or None if it is none: bytes that are no characters, or a NUL."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            return None
    if b"\0" in data:
        return None
    text = data.decode("utf-8-sig", "surrogateescape")
    start = text[:_LOOKED_AT]
    odd = sum(1 for letter in start if not (letter.isprintable() or letter in "\r\n\t\f"))
    return text if odd <= _MOST_ODD * len(start) else None


def decode(text: str) -> Any:
    """The values in a text: those of JSON, a list of those of JSON lines, or a dict of the columns of a table.

    Raises:
        UnsafeFileError: If it is larger than 2 GiB.
        DataError: If it is none of these; the message says why.
    """
    if len(text) > MAX_BYTES:
        raise UnsafeFileError("it is text of more than 2 GB", hint="save the matrix alone as .npy, read in pieces")
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg == "Extra data":
                return _json_lines(text)
            if text.lstrip().startswith("{"):
                raise DataError(f"it is no JSON: {error}", hint="write it by json.dump") from None
    return _table(text)


def _json_lines(text: str) -> list[Any]:
    values = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(f"line {number} is no JSON: {error}", hint="write a JSON object a line") from None
    return values


def _table(text: str) -> dict[str, Any]:
    delimiter = _delimiter(text)
    limit = csv.field_size_limit(sys.maxsize)  # a cell may hold a whole vector
    try:
        header, first = _header(_rows(text, delimiter))
        if not any(_is_number(cell) or cell.lstrip().startswith(("[", "array", "tensor")) for cell in first):
            raise DataError(
                "it is text without numbers", hint="give a table with a column for every number of a vector"
            )
        as_words: set[int] = set()
        while (columns := _columns(_rows(text, delimiter), header, len(first), delimiter, as_words)) is None:
            pass  # a column of numbers turned out to hold words
    except csv.Error as error:
        raise DataError(f"it is no CSV: {error}", hint="write it by the csv module or by pandas") from None
    finally:
        csv.field_size_limit(limit)
    names = _without_header(columns) if header is None else _unique(header)
    table = {name: _bracketed(column, name) for name, column in zip(names, columns, strict=True)}
    if header is not None and header[0] == "" and names:  # the index that pandas writes
        index = table.pop(names[0])
        table |= {} if isinstance(index, np.ndarray) else {"index": index}
    return gathered({name: column for name, column in table.items() if not _is_missing(column)})


def _delimiter(text: str) -> str:
    """The first of the usual ones that cuts the first two lines into equally many cells; else white space."""
    lines = [line for line in text[: 1 << 20].splitlines()[:50] if line.strip() and not line.startswith("#")][:2]
    for delimiter in _DELIMITERS:
        counts = {len(cells) for cells in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)}
        if min(counts, default=0) > 1 and (len(counts) == 1 or delimiter == ","):
            return delimiter
    return " "


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, with the number of their last line; comments before the first are passed over."""
    if delimiter == " ":
        cut: Iterator[tuple[int, list[str]]] = (
            (number, line.split()) for number, line in enumerate(io.StringIO(text), 1)
        )
    else:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        cut = ((reader.line_num, cells) for cells in reader)
    comment: tuple[int, list[str]] | None = None
    started = False
    for number, cells in cut:
        if not any(cells):
            continue
        if not started and cells[0].startswith("#"):
            named = [cells[0].lstrip("# "), *cells[1:]]
            comment = (number, [cell for cell in named if cell] if delimiter == " " else named)
            continue
        if not started and comment is not None and len(comment[1]) == len(cells):
            yield comment
        started = True
        yield number, cells


def _header(rows: Iterator[tuple[int, list[str]]]) -> tuple[list[str] | None, list[str]]:
    """The header, None if there is none, and the first row below it."""
    _, head = next(rows, (0, []))
    _, first = next(rows, (0, head))
    if len(head) == 2 and len(first) > 2 and all(cell.isdecimal() for cell in head):  # word2vec: count and width
        return None, first
    numbers = [cell for cell in head if _is_number(cell) and cell.strip()]
    is_counted = len(numbers) > 1 and numbers in (
        [str(n) for n in range(len(numbers))],
        [str(n) for n in range(1, len(numbers) + 1)],
    )
    if first is not head and (not numbers or (is_counted and not all(map(str.isdecimal, first[-len(numbers) :])))):
        return [cell.strip() for cell in head], first
    return None, head


def _columns(
    rows: Iterator[tuple[int, list[str]]], header: list[str] | None, width: int, delimiter: str, as_words: set[int]
) -> list[Column] | None:
    """The columns; None, and the column in `as_words`, if one of numbers turns out to be one of words."""
    if header is not None:
        next(rows)
        width = max(width, len(header)) if len(header) >= width else len(header)
    words: dict[int, list[Any]] = {}
    numbers: dict[int, list[NDArray[np.float64]]] = {}
    block: list[list[str]] = []

    def take() -> bool:
        for position, cells in enumerate(zip(*block, strict=True)):
            if not words and not numbers and position == 0:
                as_words.update(i for i in range(width) if not all(_is_number(row[i]) for row in block))
            if position in as_words:
                words.setdefault(position, []).extend(cells)
                continue
            parsed = _numbers(cells, delimiter)
            if parsed is None:
                as_words.add(position)
                return False
            numbers.setdefault(position, []).append(parsed)
        block.clear()
        return True

    for number, cells in rows:
        if len(cells) == width + 1 and cells[-1] == "":
            cells = cells[:-1]
        if len(cells) != width:
            if header is None and len(cells) == 2 and not block and not words and not numbers:
                continue  # count and width, as word2vec begins
            raise DataError(f"line {number} has {len(cells)} cells instead of {width}", hint="write the table again")
        block.append(cells)
        if len(block) == ROWS_PER_BLOCK and not take():
            return None
    if block and not take():
        return None
    return [
        np.concatenate(numbers[position]) if position in numbers else words[position]
        for position in range(width)
        if position in numbers or position in words
    ]


def _numbers(cells: Sequence[str], delimiter: str) -> NDArray[np.float64] | None:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        pass
    try:
        return np.array([_number(cell, delimiter) for cell in cells])
    except ValueError:
        return None


def _number(cell: str, delimiter: str = ";") -> float:
    text = cell.strip()
    if text.lower() in _MISSING:
        return float("nan")
    return float(text.replace(",", ".") if delimiter == ";" else text)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _without_header(columns: list[Column]) -> list[str]:
    """Names for columns that have none: words are paths, then labels; numbers are the vector.

    A row's own number before the vector is none of it, and a whole number after it is a label.
    """
    headers = iter(HEADERS)
    names = [
        f"embedding_{position}" if isinstance(column, np.ndarray) else next(headers, f"column {position}")
        for position, column in enumerate(columns)
    ]
    numeric = [position for position, column in enumerate(columns) if isinstance(column, np.ndarray)]
    if len(numeric) > 2:
        first, last = (np.asarray(columns[position]) for position in (numeric[0], numeric[-1]))
        inner = [np.asarray(columns[position]) for position in numeric[1:-1]]
        if not all(_is_whole(column) for column in inner):
            if len(first) > 1 and np.array_equal(first, np.arange(len(first)) + first[0]):
                names[numeric[0]] = "row"
            if _is_whole(last) and "label" not in names:
                names[numeric[-1]] = "label"
    return names


def _is_whole(column: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(column, np.round(column)))


def _unique(header: list[str]) -> list[str]:
    names: list[str] = []
    for name in header:
        number = names.count(name) and sum(1 for other in names if other == name or other.startswith(f"{name}."))
        names.append(f"{name}.{number}" if number else name)
    return names


def _bracketed(column: Column, name: str) -> Column:
    """A column of vectors in brackets as a list of arrays; any other as it is."""
    if isinstance(column, np.ndarray) or not any(cell.lstrip().startswith(("[", "array", "tensor")) for cell in column):
        return column
    vectors: list[Any] = []
    for cell in column:
        if "..." in cell:
            raise DataError(f"the vectors of column {name!r} were shortened to '...'", hint=SHORTENED_HINT)
        if cell.strip().lower() in _MISSING:
            vectors.append(None)
            continue
        try:
            vectors.append(np.array(_BRACKETS.sub(" ", cell).split(), dtype=np.float32))
        except ValueError:
            return column
    return vectors


def _is_missing(column: Column) -> bool:
    if isinstance(column, np.ndarray):
        return bool(np.isnan(column).all())
    return all(isinstance(cell, str) and cell.strip().lower() in _MISSING for cell in column)

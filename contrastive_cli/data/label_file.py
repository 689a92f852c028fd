"""A file that labels pictures: CSV rows of path and label, as competitions hand them out."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.files import delimiter_of
from contrastive_cli.data.scan import FolderLabels

MAX_LABEL_BYTES = 200_000_000
PATH_HEADERS: tuple[str, ...] = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "image_name",
)
PATH_HEADERS += ("img", "img_path", "image_id", "img_id", "id", "name", "picture", "photo", "file name", "image id")
LABEL_HEADERS = ("label", "class", "category", "target", "labels", "class_name", "label_name", "breed", "species", "y")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFile:
    """What a file of labels says: the class of each path or file name, and the sha256 of the file."""

    path: Path
    by_name: Mapping[str, str]
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedLabels:
    """The labels of pictures, and how many rows of the file name none of them."""

    found: FolderLabels
    rows_left: int


def read_labels(file: Path) -> LabelFile:
    """Read a CSV file of two columns, path and label; further columns are passed over where a header names the two.

    Comma, semicolon or tab; with a header or without one.

    Raises:
        DataError: With file and line, if it is no such file, or gives one path two labels.
    """
    try:
        if file.exists() and not file.is_file():  # a FIFO would be waited for
            raise DataError(f"{file} is no file", path=file)
        if file.stat().st_size > MAX_LABEL_BYTES:
            raise DataError(f"{file} is larger than {MAX_LABEL_BYTES // 1_000_000} MB", path=file)
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", hint="see --labels", path=file) from None
    text = content.decode("utf-8-sig", "surrogateescape")
    by_name: dict[str, str] = {}
    try:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter_of(text))
        columns: tuple[int, int] | None = None
        for row in rows:
            if columns is None and row:
                columns = _header(row)
                if columns is not None:
                    continue
                if len(row) > 2:
                    raise DataError(
                        f"{file}: of {len(row)} columns nothing says which are the path and the label",
                        hint="name them path and label in the first row, or leave these two only",
                        path=file,
                    )
                columns = (0, 1)
            if columns is not None and row:
                _add(by_name, row, columns=columns, where=f"{file}:{rows.line_num}")
    except csv.Error as error:
        raise DataError(f"{file} is no CSV file: {error}", path=file) from None
    if not by_name:
        raise DataError(f"{file} holds no labels", hint="each row is a path and a label, with a comma", path=file)
    return LabelFile(path=file, by_name=by_name, sha256=hashlib.sha256(content).hexdigest())


def _header(row: Sequence[str]) -> tuple[int, int] | None:
    """The columns of path and label, if the row is a header."""
    words = [cell.strip().lower() for cell in row]
    paths = [words.index(name) for name in PATH_HEADERS if name in words]
    labels = [words.index(name) for name in LABEL_HEADERS if name in words]
    if paths and labels:
        return paths[0], labels[0]
    if len(words) == 2 and (paths or labels):  # "id,breed_of_dog": one known word makes it a header
        path = paths[0] if paths else 1 - labels[0]
        return path, 1 - path
    return None


def _add(by_name: dict[str, str], row: Sequence[str], *, columns: tuple[int, int], where: str) -> None:
    if len(row) <= max(columns):
        raise DataError(f"{where}: {len(row)} cells; a path and a label are needed")
    name, label = row[columns[0]].strip().replace("\\", "/").removeprefix("./"), row[columns[1]].strip()
    if not name:
        raise DataError(f"{where}: the path is empty")
    if label and by_name.setdefault(name, label) != label:
        raise DataError(f"{where}: {name!r} is {label!r}, and was {by_name[name]!r} before")


def join_labels(labels: LabelFile, names: Sequence[str], *, root: Path, base: str = "") -> JoinedLabels:
    """Label pictures by their path below the root or the base, else by their file name, with or without its suffix.

    Raises:
        DataError: If no picture is named, or a row names several pictures by a file name that they share.
    """
    used: set[str] = set()
    by_file: dict[str, str] = {}
    owners: list[str | None] = []
    prefix = f"{base}/" if base else ""
    for name in names:
        key = _key(labels.by_name, name, prefix=prefix, root=root)
        owners.append(None if key is None else labels.by_name[key])
        if key is not None:
            used.add(key)
            if "/" not in key and by_file.setdefault(key, name) != name:
                raise DataError(
                    f"{labels.path}: {key!r} names {by_file[key]!r} and {name!r}",
                    hint=f"give the paths below {root} instead of file names",
                    path=labels.path,
                )
    if not used:
        first, picture = next(iter(labels.by_name)), names[0] if names else ""
        raise DataError(
            f"{labels.path} names none of the {len(names)} pictures: it says {first!r}, a picture is {picture!r}",
            hint="the first column is the path below --data-dir, or the file name",
            path=labels.path,
        )
    classes = tuple(sorted({owner for owner in owners if owner is not None}, key=_natural))
    numbers = {name: number for number, name in enumerate(classes)}
    found = np.array([-1 if owner is None else numbers[owner] for owner in owners], dtype=np.int64)
    if len(classes) < 2:
        found, classes = np.full(len(names), -1, dtype=np.int64), ()
    return JoinedLabels(found=FolderLabels(labels=found, classes=classes), rows_left=len(labels.by_name.keys() - used))


def _key(by_name: Mapping[str, str], name: str, *, prefix: str, root: Path) -> str | None:
    """The name that a picture has in the file."""
    short = name.removeprefix(prefix)
    file = name.rpartition("/")[2]
    candidates = (name, short, f"{root.name}/{name}", _stem(name), file, _stem(file))
    return next((candidate for candidate in candidates if candidate in by_name), None)


def _stem(name: str) -> str:
    """The path without the suffix of its last part."""
    dot = name.rfind(".")
    return name[:dot] if dot > name.rfind("/") + 1 else name


def _natural(label: str) -> tuple[int, int, str]:
    """Numbers in their order, before words."""
    return (0, int(label), "") if label.isascii() and label.isdigit() and len(label) < 19 else (1, 0, label)

"""A folder of embeddings: parquet shards of one schema, and an index that holds the sum of each.

Each shard is an embeddings file of its own; their rows, shard after shard, are those of the folder. The index is
written after every shard, so that what was begun can be gone on with, and says at the end that all of them are there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from contrastive_cli.core.config import Config
from contrastive_cli.core.errors import DataError, RunError, UnsafeFileError
from contrastive_cli.core.files import cannot_write, sha256_of, write_json
from contrastive_cli.embeddings.file_formats import MAPPED_BYTES
from contrastive_cli.embeddings.files import Embeddings, read_embeddings, write_embeddings
from contrastive_cli.embeddings.placing import same_space

SCHEMA = "clr-embeddings-folder/1"
INDEX_FILE = "index.json"
SHARD_NAME = re.compile(r"shard-(\d{5,9})\.parquet", re.ASCII)
MAX_INDEX_BYTES = 256 << 20
AGAIN = "repeat the `clr embed` that began it: it goes on from there"


class LeftOut(Config):
    """A file that could not be read, and why; signs of no encoding are written out."""

    path: str
    reason: str


class Shard(Config):
    """One file of the folder; of no rows there is no file, as when none of its images could be read."""

    file: str = Field(pattern=rf"^{SHARD_NAME.pattern}$")
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    left_out: tuple[LeftOut, ...] = ()

    @property
    def number(self) -> int:
        """Its place among the shards, from 0."""
        named = SHARD_NAME.fullmatch(self.file)
        assert named is not None, "the pattern was asked for"
        return int(named[1])


class FolderIndex(Config):
    """What a folder holds.

    Attributes:
        finished: Whether all shards are there.
        of: Of what these are the embeddings, by which another call knows its own; plain JSON.
        shards: Those that are whole, in their order.
    """

    schema_: str = Field(alias="schema", pattern=f"^{SCHEMA}$")
    finished: bool
    of: dict[str, Any]
    shards: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """N."""
        return sum(shard.rows for shard in self.shards)


def shard_file(number: int) -> str:
    """The name of a shard."""
    return f"shard-{number:05}.parquet"


def write_shard(
    folder: Path, number: int, embeddings: Embeddings | None, *, left_out: Sequence[tuple[str, str]] = ()
) -> Shard:
    """Write a shard and return what the index says of it; None where no image could be read.

    Raises:
        DataError, RunError, UsageError: As `write_embeddings`.
    """
    file = folder / shard_file(number)
    sha256 = "" if embeddings is None else write_embeddings(file, embeddings)
    return Shard(
        file=file.name,
        rows=0 if embeddings is None else len(embeddings.vectors),
        bytes=0 if embeddings is None else file.stat().st_size,
        sha256=sha256,
        left_out=tuple(LeftOut(path=_encodable(path), reason=_encodable(reason)) for path, reason in left_out),
    )


def write_index(folder: Path, *, of: Mapping[str, Any], shards: Sequence[Shard], finished: bool) -> FolderIndex:
    """Say what is there.

    Raises:
        RunError: If it cannot be written.
    """
    ordered = tuple(sorted(shards, key=lambda shard: shard.number))
    index = FolderIndex(schema=SCHEMA, finished=finished, of=dict(of), shards=ordered)
    shown = index.model_dump(by_alias=True)
    write_json(folder / INDEX_FILE, shown)
    return index


def is_shard_folder(folder: Path) -> bool:
    """Whether there is an index, whatever it says."""
    return (folder / INDEX_FILE).is_file()


def read_index(folder: Path) -> FolderIndex:
    """What the index of a folder says.

    Raises:
        DataError: If there is none, or it is damaged.
        UnsafeFileError: If it is too large to be one.
    """
    file = folder / INDEX_FILE
    if not file.is_file():
        raise DataError(
            f"{folder} is a folder without {INDEX_FILE}, not embeddings",
            hint="give a file or a folder that `clr embed` wrote",
            path=folder,
        )
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_INDEX_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}", path=file) from error
    if len(text) > MAX_INDEX_BYTES:
        raise UnsafeFileError(f"{file} is larger than {MAX_INDEX_BYTES / 1e6:.0f} MB", path=file)
    try:
        index = FolderIndex.model_validate(json.loads(text))
    except (ValueError, RecursionError, ValidationError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise DataError(f"{file} is no index of embeddings: {reason}", hint=AGAIN, path=file) from None
    numbers = [shard.number for shard in index.shards]
    if numbers != sorted(set(numbers)):
        raise DataError(f"{file} names a shard twice, or not in order", hint=AGAIN, path=file)
    return index


def is_whole(folder: Path, shard: Shard) -> bool:
    """Whether the file of a shard has the bytes that were written."""
    if not shard.rows:
        return True
    file = folder / shard.file
    with contextlib.suppress(OSError):
        return file.is_file() and file.stat().st_size == shard.bytes and sha256_of(file) == shard.sha256
    return False


def remove_shards(folder: Path) -> None:
    """Remove the shards of a folder and its index, and nothing else.

    Raises:
        RunError: If they cannot be removed.
    """
    try:
        (folder / INDEX_FILE).unlink(missing_ok=True)  # first, as it speaks of the others
        for file in sorted(folder.iterdir()):
            if SHARD_NAME.fullmatch(file.name):
                file.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def read_folder(folder: Path) -> Embeddings:
    """All rows of a folder; of many, the vectors are a read-only memory map of a file without a name.

    Raises:
        DataError: If it is unfinished or damaged, or its shards are not of one kind.
        UnsafeFileError: If reading it could exhaust the machine.
        RunError: If there is no room for the memory map.
    """
    index = read_index(folder)
    held = [shard for shard in index.shards if shard.rows]
    if not index.finished:
        there = f"{index.rows} embeddings so far"
        raise DataError(f"{folder} is not finished: it holds {there}", hint=AGAIN, path=folder)
    if not held:
        raise DataError(f"{folder} holds no embeddings", hint=AGAIN, path=folder)
    beside: list[Embeddings] = []

    def read_vectors() -> Iterator[NDArray[np.float32]]:
        for shard in held:
            part = _read_shard(folder, shard)
            width = part.vectors.shape[1]
            beside.append(replace(part, vectors=np.empty((0, width), np.float32)))  # which keeps nothing alive
            if not _is_same_kind(beside[-1], beside[0]):
                file = folder / shard.file
                raise DataError(f"{file} is of another kind than the first shard", hint=AGAIN, path=file)
            if len(beside) > 1:
                beside[-1] = replace(beside[-1], space=None)  # it is that of the first
            yield part.vectors

    pieces = read_vectors()
    first = next(pieces)
    whole = itertools.chain([first], pieces)
    is_large = index.rows * first[0].nbytes >= MAPPED_BYTES
    vectors = _mapped(whole, folder, shape=(index.rows, first.shape[1])) if is_large else np.concatenate(list(whole))
    return _joined(beside, vectors)


def _read_shard(folder: Path, shard: Shard) -> Embeddings:
    file = folder / shard.file
    if not is_whole(folder, shard):
        what = "is damaged: its sum is another" if file.is_file() else "is missing"
        raise DataError(f"{file} {what}", hint=AGAIN, path=file)
    embeddings = read_embeddings(file)
    if len(embeddings.vectors) != shard.rows:
        raise DataError(f"{file} has {len(embeddings.vectors)} rows, not {shard.rows}", hint=AGAIN, path=file)
    return embeddings


def _is_same_kind(one: Embeddings, first: Embeddings) -> bool:
    """The shards of a folder have one schema, one model, one space."""
    columns = ("labels", "paths", "indices", "uncertainty", "space")
    facts = [
        (
            embeddings.vectors.shape[1],
            [getattr(embeddings, name) is None for name in columns],
            embeddings.classes,
            embeddings.model,
            embeddings.preprocess,
            embeddings.dataset,
        )
        for embeddings in (one, first)
    ]
    return facts[0] == facts[1] and same_space(one, first)


def _joined(parts: Sequence[Embeddings], vectors: NDArray[np.float32]) -> Embeddings:
    def column(name: str) -> Any:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else np.concatenate(found)

    paths = parts[0].paths
    if paths is not None:
        paths = tuple(path for part in parts for path in part.paths or ())
    columns = {name: column(name) for name in ("labels", "indices", "uncertainty")}
    return replace(parts[0], vectors=vectors, paths=paths, **columns)


def _mapped(pieces: Iterable[NDArray[np.float32]], folder: Path, *, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The pieces as one read-only memory map of a file that nobody else sees and that goes with the map."""
    try:
        with tempfile.TemporaryFile() as file:
            for piece in pieces:
                file.write(np.ascontiguousarray(piece).data)
            file.flush()
            mapped: NDArray[np.float32] = np.memmap(file, np.float32, mode="r", shape=shape)
            return mapped
    except OSError as error:
        where = tempfile.gettempdir()
        raise RunError(
            f"no room in {where} to unpack {folder}: {error.strerror or error}",
            hint="name another place by TMPDIR",
            path=where,
        ) from error


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

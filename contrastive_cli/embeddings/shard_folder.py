"""A folder of embeddings: parquet shards of one schema, the space that they share, and an index with the sum of each.

Each shard is an embeddings file of its own; their rows, shard after shard, are those of the folder.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, RunError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.embeddings import file_formats
from contrastive_cli.embeddings.file_formats import MAPPED_BYTES
from contrastive_cli.embeddings.files import Embeddings, read_embeddings, write_embeddings
from contrastive_cli.embeddings.placing import space_columns, space_from
from contrastive_cli.embeddings.shard_index import (
    AGAIN,
    SPACE_FILE,
    FolderIndex,
    LeftOut,
    Shard,
    SpaceFile,
    is_whole,
    read_index,
    shard_file,
)
from contrastive_cli.embeddings.space import Space


def write_shard(
    folder: Path, number: int, embeddings: Embeddings | None, *, left_out: Sequence[tuple[str, str]] = ()
) -> Shard:
    """Write a shard and return what the index says of it; None where no image could be read.

    The space is not written, which all shards share: its axes may take more bytes than the rows.

    Raises:
        DataError, RunError, UsageError: As `write_embeddings`.
    """
    file = folder / shard_file(number)
    sha256 = "" if embeddings is None else write_embeddings(file, replace(embeddings, space=None))
    return Shard(
        file=file.name,
        rows=0 if embeddings is None else len(embeddings.vectors),
        bytes=0 if embeddings is None else file.stat().st_size,
        sha256=sha256,
        left_out=tuple(LeftOut(path=_encodable(path), reason=_encodable(reason)) for path, reason in left_out),
    )


def write_space(folder: Path, space: Space) -> SpaceFile:
    """Write the space that all shards share.

    Raises:
        RunError: If it cannot be written.
    """
    file = folder / SPACE_FILE
    content = file_formats.encode({**space_columns(space), "exponent": np.array(space.exponent)}, file)
    return SpaceFile(bytes=len(content), sha256=write_atomically(file, content))


def read_space(folder: Path, index: FolderIndex) -> Space | None:
    """The space of the shards, if they have one.

    Raises:
        DataError: If its file is missing or damaged.
    """
    if index.space is None:
        return None
    file = folder / index.space.file
    if not is_whole(folder, index.space):
        what = "is damaged: its sum is another" if file.is_file() else "is missing"
        raise DataError(f"{file} {what}", hint=AGAIN, path=file)
    columns = file_formats.decode(file)
    found = space_from(columns, columns) if isinstance(columns, Mapping) else None
    if found is None:
        raise DataError(f"{file} holds no space", hint=AGAIN, path=file)
    return found


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
            yield part.vectors

    pieces = read_vectors()
    first = next(pieces)
    whole = itertools.chain([first], pieces)
    is_large = index.rows * first[0].nbytes >= MAPPED_BYTES
    vectors = _mapped(whole, folder, shape=(index.rows, first.shape[1])) if is_large else np.concatenate(list(whole))
    return replace(_joined(beside, vectors), space=read_space(folder, index))


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
    """The shards of a folder have one schema and one model."""
    columns = ("labels", "paths", "indices", "uncertainty")
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
    return facts[0] == facts[1]


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

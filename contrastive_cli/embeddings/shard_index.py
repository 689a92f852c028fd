"""The index of a folder of embeddings: which shards are there, how many rows each has, and its sum.

It is written after every shard, so that what was begun can be gone on with, and says at the end that all are there.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from contrastive_cli.core.config import Config
from contrastive_cli.core.errors import DataError, UnsafeFileError
from contrastive_cli.core.files import cannot_write, sha256_of, write_json

SCHEMA = "clr-embeddings-folder/1"
INDEX_FILE = "index.json"
SPACE_FILE: Final = "space.npz"
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


class SpaceFile(Config):
    """The file of the space that all shards share."""

    file: Literal["space.npz"] = SPACE_FILE
    bytes: int = Field(ge=0)
    sha256: str


class FolderIndex(Config):
    """What a folder holds.

    Attributes:
        finished: Whether all shards are there.
        of: Of what these are the embeddings, by which another call knows its own; plain JSON.
        space: The file of their space, if they have one.
        shards: Those that are whole, in their order.
    """

    schema_: str = Field(alias="schema", pattern=f"^{SCHEMA}$")
    finished: bool
    of: dict[str, Any]
    space: SpaceFile | None = None
    shards: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """N."""
        return sum(shard.rows for shard in self.shards)


def shard_file(number: int) -> str:
    """The name of a shard."""
    return f"shard-{number:05}.parquet"


def write_index(
    folder: Path, *, of: Mapping[str, Any], space: SpaceFile | None, shards: Sequence[Shard], finished: bool
) -> FolderIndex:
    """Say what is there.

    Raises:
        RunError: If it cannot be written.
    """
    ordered = tuple(sorted(shards, key=lambda shard: shard.number))
    index = FolderIndex(schema=SCHEMA, finished=finished, of=dict(of), space=space, shards=ordered)
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


def is_whole(folder: Path, part: Shard | SpaceFile) -> bool:
    """Whether the file has the bytes that were written."""
    if isinstance(part, Shard) and not part.rows:
        return True
    file = folder / part.file
    with contextlib.suppress(OSError):
        return file.is_file() and file.stat().st_size == part.bytes and sha256_of(file) == part.sha256
    return False


def remove_shards(folder: Path) -> None:
    """Remove the shards of a folder, their space and its index, and nothing else.

    Raises:
        RunError: If they cannot be removed.
    """
    try:
        (folder / INDEX_FILE).unlink(missing_ok=True)  # first, as it speaks of the others
        for file in sorted(folder.iterdir()):
            if SHARD_NAME.fullmatch(file.name) or file.name == SPACE_FILE:
                file.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error

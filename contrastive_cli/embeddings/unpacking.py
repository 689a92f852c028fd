"""Compressed bytes, unpacked in bounded pieces: what a file says of its own size is never believed."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
import zlib
from typing import BinaryIO, cast

from contrastive_cli.core.errors import DataError, UnsafeFileError

MAX_ZIP_MEMBERS = 1000

_GZIP, _BZIP2, _ZLIB = b"\x1f\x8b", b"BZh", b"\x78"


def unpack(data: bytes, *, limit: int) -> bytes | None:
    """The content of gzip, bzip2 or zlib (which joblib writes); None if it is none of these.

    Raises:
        UnsafeFileError: If it would be larger than `limit`.
        OSError, EOFError, zlib.error: If it is damaged.
    """
    if data.startswith(_GZIP):
        return _read_all(cast(BinaryIO, gzip.GzipFile(fileobj=io.BytesIO(data))), limit)
    if data.startswith(_BZIP2):
        return _read_all(cast(BinaryIO, bz2.BZ2File(io.BytesIO(data))), limit)
    if data.startswith(_ZLIB) and int.from_bytes(data[:2], "big") % 31 == 0:
        unpacked = zlib.decompressobj().decompress(data, limit + 1)
        return _checked(unpacked, limit)
    return None


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a member, at most as much as the directory says.

    `ZipFile.read` would unpack up to 2 GiB at once and cut afterwards.

    Raises:
        zipfile.BadZipFile, zlib.error: If it is damaged or not of the size that is stated.
    """
    with archive.open(member) as stream:
        return stream.read(member.file_size + 1)


def check_members(members: list[zipfile.ZipInfo], *, num_bytes: int, limit: int) -> None:
    """Refuse an archive that says itself that it would fill the memory.

    Raises:
        UnsafeFileError: If it would unpack to more than `limit`, or has too many or repeated members.
        DataError: If it is compressed by another method than zip's own.
    """
    total = sum(member.file_size for member in members)
    if total > limit:
        message = f"it would unpack to {total / 1e6:.0f} MB from {num_bytes / 1e6:.1f} MB"
        raise UnsafeFileError(message, hint="save it uncompressed (numpy.savez)")
    if len(members) > MAX_ZIP_MEMBERS or len({member.filename for member in members}) != len(members):
        raise UnsafeFileError("it has too many or repeated members", hint="save it with numpy.savez")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise DataError("it is compressed in an unusual way", hint="save it with numpy.savez")


def _read_all(stream: BinaryIO, limit: int) -> bytes:
    with stream:
        return _checked(stream.read(limit + 1), limit)


def _checked(unpacked: bytes, limit: int) -> bytes:
    if len(unpacked) > limit:
        raise UnsafeFileError(f"it would unpack to more than {limit / 1e6:.0f} MB", hint="give it unpacked")
    return unpacked

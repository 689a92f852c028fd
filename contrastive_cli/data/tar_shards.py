"""Tar shards in the layout of WebDataset: files of one sample share their name up to the first dot.

`000017.jpg` is a picture and `000017.cls` or `000017.json` says what is on it. Only headers and labels are read when a
shard is opened; a picture is read where it lies when it is decoded, so nothing is unpacked.
https://github.com/webdataset/webdataset describes the layout.
"""

from __future__ import annotations

import functools
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.framing import Framing
from contrastive_cli.data.images import BadImage, Channels, Images, decode_bytes
from contrastive_cli.data.kinds import picture_suffixes
from contrastive_cli.data.shards import Label, Shard

SUFFIXES = (".tar",)
CLASS_SUFFIXES = ("cls", "cls.txt", "label", "index")
MOST_CLASS_BYTES = 4096
MOST_JSON_BYTES = 1 << 20
MOST_PICTURE_BYTES = 1 << 30
LABEL_KEYS = ("label_name", "class_name", "classname", "label", "cls", "class", "category", "target")


@dataclass(kw_only=True, slots=True)
class _Sample:
    """What one sample has: its picture's name, place and length in the tar, and its label."""

    pictures: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    by_class_file: Label = None
    by_json: Label = None


def open_tar_shard(path: Path) -> Shard:
    """Read the headers and the labels of a tar.

    Raises:
        DataError: If it is no whole tar, or is compressed.
    """
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    _add(samples, archive, member)
            _check_end(path, archive.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise DataError(
            f"{os.fspath(path)!r} is no whole tar: {' '.join(str(error).split()) or type(error).__name__}",
            hint="fetch it again; a compressed one must be unpacked to .tar first (gunzip), to be read at any place",
            path=path,
        ) from None
    # The first picture of a sample by its suffix: `7.jpg` goes before the mask `7.seg.png`.
    kept = [
        (key, sample, min(sample.pictures, key=lambda suffix: (suffix.count("."), suffix)))
        for key, sample in samples.items()
        if sample.pictures
    ]
    places = [sample.pictures[suffix] for _, sample, suffix in kept]
    return Shard(
        names=tuple(name for name, _, _ in places),
        labels=tuple(s.by_json if s.by_class_file is None else s.by_class_file for _, s, _ in kept),
        decode=functools.partial(_decode, path, places),
    )


def _check_end(path: Path, offset: int) -> None:
    """`tarfile` takes a header that it cannot read, and the end of the file, for the end of the tar.

    Raises:
        ValueError: If neither nothing nor a block of zeros is there, or the last member is not whole.
    """
    if path.stat().st_size < offset:
        raise ValueError(f"it ends at byte {path.stat().st_size}, within a file")
    with path.open("rb") as file:
        file.seek(offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise ValueError(f"there is no header at byte {offset}")


def _add(samples: dict[str, _Sample], archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    stem, _, suffix = name.name.partition(".")
    suffix = suffix.lower()
    if not stem:  # a hidden file, as `._000017.jpg` of a Mac
        return
    sample = samples.setdefault(os.fspath(name.parent / stem), _Sample())
    if f".{suffix.rpartition('.')[2]}" in picture_suffixes():
        sample.pictures[suffix] = (member.name, member.offset_data, member.size)
    elif suffix in CLASS_SUFFIXES and member.size <= MOST_CLASS_BYTES:
        sample.by_class_file = _to_label(_content(archive, member).decode("utf-8", "replace").strip())
    elif suffix == "json" and member.size <= MOST_JSON_BYTES:
        sample.by_json = _label_of_json(_content(archive, member))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def _to_label(text: str) -> Label:
    """A number if it is one; negative numbers and nothing are no label."""
    try:
        number = int(text)
    except ValueError:
        return text.splitlines()[0][:200] if text else None
    return number if number >= 0 else None


def _label_of_json(content: bytes) -> Label:
    try:
        tree: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(tree, dict):
        return _to_label(str(tree)) if isinstance(tree, int | str) and not isinstance(tree, bool) else None
    for key in LABEL_KEYS:
        value = tree.get(key)
        if isinstance(value, int | str) and not isinstance(value, bool):
            return _to_label(str(value).strip())
    return None


def _decode(
    path: Path,
    places: Sequence[tuple[str, int, int]],
    index: int,
    size: int,
    channels: Channels,
    framing: Framing | None,
) -> Images:
    name, offset, length = places[index]
    shown = path / name.lstrip("/")
    if length > MOST_PICTURE_BYTES:
        raise BadImage(shown, f"its file of {length} bytes is too large")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(length)
    except OSError as error:
        raise BadImage(shown, error.strerror or "it cannot be read") from None
    if len(content) != length:
        raise BadImage(shown, "the tar ends within it")
    return decode_bytes(content, name=shown, size=size, channels=channels, framing=framing)

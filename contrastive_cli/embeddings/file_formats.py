"""Containers of arrays and text, told apart by their first bytes.

They are pickle, npz, npy, safetensors, parquet, HDF5, torch.save, CSV and other tables, JSON, JSON lines, and these
compressed.
`decode` turns any of them into plain Python and numpy values; what these mean is for foreign_layouts.py to say.
Nothing here runs code from a file: pickles, those of torch and numpy among them, go through the package `pickles`.
torch, safetensors, pyarrow and h5py are imported only for files that need them.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.damage import TORCH_LOAD_ERRORS
from contrastive_cli.core.errors import DataError, UnsafeFileError, UsageError
from contrastive_cli.embeddings import (
    hdf5_format,
    npy_format,
    parquet_format,
    safetensors_format,
    text_formats,
    torch_format,
    unpacking,
)
from contrastive_cli.pickles import reader as safe_pickle
from contrastive_cli.pickles.refusals import RefusedError

MAX_BYTES = safe_pickle.MAX_BYTES
MAPPED_BYTES = 1 << 28  # an .npy file of this size and more is not read at once
FREE_BYTES = 64 << 20  # small files may expand by any ratio: a column of zeros compresses a thousandfold
MAX_RATIO = 200
WRITE_HINT = "give a .pkl, .npz, .npy, .safetensors, .parquet, .csv or .jsonl file, as `clr embed` writes them"

Columns = Mapping[str, NDArray[Any] | list[str] | Mapping[str, Any] | str]

_OLD_PICKLE = re.compile(rb"[(\]}]|c[A-Za-z_][\w.]*\r?\n[A-Za-z_][\w.]*\r?\n")  # of protocols 0 and 1
_DAMAGED = (*TORCH_LOAD_ERRORS, RefusedError)  # UnsafeFileError and DataError are caught before
_KNOWN = {  # what other files begin with, and the way from there
    b"IxF": ("a faiss index", "numpy.save('x.npy', faiss.read_index('x.index').reconstruct_n())"),
    b"IxM": ("a faiss index with ids", "i = faiss.read_index('x.index'); numpy.save('x.npy', i.index.reconstruct_n())"),
    b"MATLAB": ("a MATLAB file", "numpy.savez('x.npz', embeddings=scipy.io.loadmat('x.mat')['features'])"),
    b"ARROW1": ("a feather file", "parquet.write_table(feather.read_table('x.feather'), 'x.parquet') of pyarrow"),
    b"SQLite format 3": ("a SQLite data base", "pandas.read_sql('select * from t', c).to_parquet('x.parquet')"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it first: xz -d"),
    b"(\xb5/\xfd": ("compressed by zstd", "unpack it first: zstd -d"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it first"),
    b"Rar!": ("a RAR archive", "unpack it first"),
}


def encode(columns: Columns, path: Path) -> bytes:
    """The content of a file in the format that the suffix of `path` names.

    Raises:
        UsageError: If the suffix names no format.
    """
    encoder = _ENCODERS.get(path.suffix.lower())
    if encoder is None:
        raise UsageError(f"cannot write {path}: unknown suffix {path.suffix!r}", hint=f"use {', '.join(_ENCODERS)}")
    return encoder(columns)


def decode(path: Path) -> Any:
    """The plain values in a file, whatever its suffix; of a large .npy file, a read-only memory map.

    Raises:
        DataError: If the file is missing, empty, damaged or in no known format.
        UnsafeFileError: If reading it could run code or exhaust the machine.
    """
    size = _check_file(path)
    if size >= MAPPED_BYTES and _starts_with(path, npy_format.MAGIC):
        with _errors_of(path):
            return npy_format.map_file(path)
    data = _read(path, size)
    with _errors_of(path):
        return _decode(data, path, is_packed=True)


def _decode(data: bytes, path: Path, *, is_packed: bool) -> Any:
    """`is_packed` is whether the content may be compressed once more."""
    if data.startswith(b"PK\x03\x04"):
        return _decode_zip(data, path, is_packed=is_packed)
    if torch_format.LEGACY.match(data):
        return torch_format.decode_legacy(data)
    if data.startswith(npy_format.MAGIC):
        return npy_format.decode(data)
    if safetensors_format.is_safetensors(data):
        # Before pickle, since the first byte of the header's length can be any.
        return safetensors_format.decode(data)
    if data.startswith(parquet_format.MAGIC):
        return parquet_format.decode(data, limit=_unpacked_limit(len(data)))
    if data.startswith(hdf5_format.MAGIC):
        return hdf5_format.decode(data, limit=_unpacked_limit(len(data)))
    text = None if data[:1] == b"\x80" else text_formats.as_text(data)
    # A table may begin like a pickle of text, with a header `class`, so a pickle of text must end as one too.
    if data[:1] == b"\x80" or (_OLD_PICKLE.match(data) and (text is None or data.rstrip().endswith(b"."))):
        return safe_pickle.load(data)
    if text is None and is_packed:
        unpacked = unpacking.unpack(data, limit=_unpacked_limit(len(data)))
        if unpacked:
            return _decode(unpacked, path, is_packed=False)
    for magic, (what, hint) in _KNOWN.items():
        if data.startswith(magic):
            raise _NotEmbeddingsError(f"is {what}, which is not read", hint=hint)
    if text is not None and text.strip():
        return text_formats.decode(text)
    raise _NotEmbeddingsError(f"is not an embeddings file (it starts with {data[:8]!r})", hint=WRITE_HINT)


class _NotEmbeddingsError(DataError):
    """A file of another kind."""


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Errors of reading that name the file; whatever a reader stumbles over is damage."""
    try:
        yield
    except UnsafeFileError as error:
        message = error.message.removeprefix("refused to read the pickle: ")
        raise UnsafeFileError(f"refused to read {path}: {message}", hint=error.hint, path=path) from None
    except _NotEmbeddingsError as error:
        raise DataError(f"{path} {error.message}", hint=error.hint, path=path) from None
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint=error.hint, path=path) from None
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0][:120]
        message = f"{path} is damaged: {reason or type(error).__name__}"
        raise DataError(message, hint="write it again", path=path) from error


def _check_file(path: Path) -> int:
    """The size of a file that can be read."""
    try:
        if not path.is_file():
            what = "is a directory, not a file" if path.is_dir() else "does not exist or is not a file"
            raise DataError(f"{path} {what}", hint="give a file that `clr embed` or `clr knn` wrote", path=path)
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path, size: int) -> bytes:
    if size > MAX_BYTES:
        hint = "split it, or save the matrix alone as .npy, which is read in pieces"
        raise UnsafeFileError(f"{path} is larger than {MAX_BYTES / 1e9:.1f} GB", hint=hint, path=path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not data:
        raise DataError(f"{path} is empty", hint="write it again", path=path)
    return data


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot read {path}: {error.strerror or error}", path=path)


def _decode_zip(data: bytes, path: Path, *, is_packed: bool) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        unpacking.check_members(members, num_bytes=len(data), limit=_unpacked_limit(len(data)))
        if torch_format.is_torch(archive):
            return torch_format.decode(archive, num_bytes=len(data))
        if not any(member.filename.endswith(".npy") for member in members):
            if len(members) == 1 and is_packed:  # as pandas writes x.csv.zip
                return _decode(unpacking.read_member(archive, members[0]), path, is_packed=False)
            held = ", ".join(ascii(member.filename)[:40] for member in members[:3])
            raise _NotEmbeddingsError(f"is a zip archive of other things ({held})", hint=WRITE_HINT)
        arrays = {
            member.filename.removesuffix(".npy"): npy_format.decode(unpacking.read_member(archive, member))
            for member in members
        }
    metadata = arrays.get("metadata")
    if isinstance(metadata, np.ndarray) and metadata.dtype.kind == "U" and metadata.shape == ():
        return arrays | dict(json.loads(str(metadata)))
    return arrays


def _unpacked_limit(num_bytes: int) -> int:
    """Bytes that a file of so many may unpack to."""
    return min(MAX_BYTES, FREE_BYTES + MAX_RATIO * num_bytes)


def _encode_pickle(columns: Columns) -> bytes:
    return pickle.dumps(dict(columns), protocol=4)


def _arrays_and_metadata(columns: Columns) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]], str]:
    arrays = {name: value for name, value in columns.items() if isinstance(value, np.ndarray)}
    texts = {name: value for name, value in columns.items() if isinstance(value, list)}
    rest = {name: value for name, value in columns.items() if name not in arrays and name not in texts}
    return arrays, texts, json.dumps(rest)


def _encode_npz(columns: Columns) -> bytes:
    arrays, texts, metadata = _arrays_and_metadata(columns)
    stream = io.BytesIO()
    as_arrays = {name: np.array(value, dtype=np.str_) for name, value in texts.items()}
    np.savez(stream, allow_pickle=False, metadata=np.array(metadata), **arrays, **as_arrays)
    return stream.getvalue()


def _encode_safetensors(columns: Columns) -> bytes:
    return safetensors_format.encode(*_arrays_and_metadata(columns))


_ENCODERS: dict[str, Callable[[Columns], bytes]] = {
    ".pkl": _encode_pickle,
    ".pickle": _encode_pickle,
    ".npz": _encode_npz,
    ".safetensors": _encode_safetensors,
    ".parquet": parquet_format.encode,
}

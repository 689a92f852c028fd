"""Containers of arrays and text: pickle, npz, npy, safetensors, parquet, torch.save, told apart by their first bytes.

`decode` turns any of them into plain Python and numpy values; what these mean is for foreign_layouts.py to say.
Nothing here runs code from a file: `allow_pickle` is never given, torch loads weights only, pickles go through
safe_pickle. torch, safetensors and pyarrow are imported only for files that need them.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.damage import TORCH_LOAD_ERRORS
from contrastive_cli.core.errors import DataError, UnsafeFileError, UsageError
from contrastive_cli.embeddings import npy_format, parquet_format
from contrastive_cli.pickles import reader as safe_pickle
from contrastive_cli.pickles.refusals import RefusedError

MAX_BYTES = safe_pickle.MAX_BYTES
MAPPED_BYTES = 1 << 28  # an .npy file of this size and more is not read at once
MAX_ZIP_MEMBERS = 1000
FREE_BYTES = 64 << 20  # small files may expand by any ratio: a column of zeros compresses a thousandfold
MAX_RATIO = 200

Columns = Mapping[str, NDArray[Any] | list[str] | Mapping[str, Any] | str]

_JSON_SUFFIX = "_json"
TORCH_PROTOCOL = 2
_LEGACY_TORCH = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", re.DOTALL)
_TORCH_GLOBAL = re.compile(r"GLOBAL (\S{1,100})")
_DAMAGED = (ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, RecursionError, MemoryError, OSError)
_DAMAGED_ZIP = (*_DAMAGED, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, tokenize.TokenError)


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
        return _decode_npy(path, path)
    data = _read(path, size)
    if data.startswith(b"PK\x03\x04"):
        return _decode_zip(data, path)
    if _LEGACY_TORCH.match(data):
        return _decode_torch(data, path)
    if data.startswith(npy_format.MAGIC):
        return _decode_npy(data, path)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8:
        # Before pickle, since the first byte of the header's length can be any.
        return _decode_safetensors(data, path)
    if data.startswith(parquet_format.MAGIC):
        return _decode_parquet(data, path)
    if data[0] == 0x80 or data[:1] in (b"(", b"]", b"}", b"c", b"i"):
        try:
            return safe_pickle.load(data)
        except UnsafeFileError as error:
            message = error.message.replace("the pickle", str(path), 1)
            raise UnsafeFileError(message, hint=error.hint, path=path) from None
    hint = "give a .pkl, .npz, .npy, .safetensors or .parquet file, as `clr embed` writes them"
    raise DataError(f"{path} is not an embeddings file (it starts with {data[:8]!r})", hint=hint, path=path)


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


def _decode_zip(data: bytes, path: Path) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, num_bytes=len(data), path=path)
            if any(member.filename.endswith("/data.pkl") for member in members):
                return _decode_torch(data, path)
            arrays = {
                member.filename.removesuffix(".npy"): _decode_npy(archive.read(member), path) for member in members
            }
        metadata = arrays.get("metadata")
        if metadata is not None and metadata.dtype.kind == "U" and metadata.shape == ():
            return arrays | dict(json.loads(str(metadata)))
    except _DAMAGED_ZIP as error:
        raise _damaged(path, error) from error
    return arrays


def _unpacked_limit(num_bytes: int) -> int:
    """Bytes that a file of so many may unpack to."""
    return min(MAX_BYTES, FREE_BYTES + MAX_RATIO * num_bytes)


def _check_members(members: list[zipfile.ZipInfo], *, num_bytes: int, path: Path) -> None:
    total = sum(member.file_size for member in members)
    if total > _unpacked_limit(num_bytes):
        message = f"{path} would unpack to {total / 1e6:.0f} MB from {num_bytes / 1e6:.1f} MB"
        raise UnsafeFileError(message, hint="save it uncompressed (numpy.savez)", path=path)
    if len(members) > MAX_ZIP_MEMBERS or len({member.filename for member in members}) != len(members):
        raise UnsafeFileError(f"{path} has too many or repeated members", hint="save it with numpy.savez", path=path)
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise DataError(f"{path} is compressed in an unusual way", hint="save it with numpy.savez", path=path)


def _decode_npy(source: bytes | Path, path: Path) -> NDArray[Any]:
    try:
        return npy_format.decode(source) if isinstance(source, bytes) else npy_format.map_file(source)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"refused to read {path}: {error.message}", hint=error.hint, path=path) from None
    except (*_DAMAGED, tokenize.TokenError, RefusedError) as error:
        raise _damaged(path, error) from error


def _decode_safetensors(data: bytes, path: Path) -> dict[str, Any]:
    import safetensors
    import safetensors.numpy

    try:
        values: dict[str, Any] = dict(safetensors.numpy.load(data))
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        for key in [key for key in values if key.endswith(_JSON_SUFFIX) and values[key].dtype == np.uint8]:
            values[key.removesuffix(_JSON_SUFFIX)] = json.loads(values.pop(key).tobytes())
        return values | dict(json.loads(header.get("__metadata__", {}).get("clr", "{}")))
    except (*_DAMAGED, AttributeError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error


def _decode_parquet(data: bytes, path: Path) -> dict[str, Any]:
    try:
        return parquet_format.decode(data, limit=_unpacked_limit(len(data)))
    except UnsafeFileError as error:
        raise UnsafeFileError(f"refused to read {path}: {error.message}", hint=error.hint, path=path) from None
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint=error.hint, path=path) from None
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _decode_torch(data: bytes, path: Path) -> Any:
    import torch

    seen: dict[int, Any] = {}

    def plain(value: Any, depth: int) -> Any:
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_meta or value.is_quantized:
                kind = "sparse" if value.layout != torch.strided else "quantized" if value.is_quantized else "empty"
                hint = "save it as a plain one: tensor.to_dense() or tensor.dequantize()"
                raise DataError(f"{path} holds {kind} tensors, which are not read", hint=hint, path=path)
            # A view of one number can claim any shape; only what the file holds is turned into an array.
            if value.numel() * value.element_size() > len(data):
                raise ValueError("a tensor is larger than the file")
            value = value.detach().resolve_conj().resolve_neg()
            return (value.float() if value.is_floating_point() else value).numpy()  # numpy lacks half of the kinds
        if depth > safe_pickle.MAX_DEPTH:
            raise ValueError("nested too deeply")
        if not isinstance(value, dict | list | tuple):
            return value
        if id(value) not in seen:  # what a small file holds a million times is made once
            if isinstance(value, dict):
                seen[id(value)] = {key: plain(item, depth + 1) for key, item in value.items()}
            else:
                items = [plain(item, depth + 1) for item in value]
                seen[id(value)] = items if type(value) is list else tuple(items) if type(value) is tuple else None
        return seen[id(value)]

    if (protocol := _torch_protocol(data)) != TORCH_PROTOCOL:
        message = f"{path} was saved with pickle_protocol={protocol}, of which torch itself reads only {TORCH_PROTOCOL}"
        raise UnsafeFileError(message, hint="save it by torch.save without that option", path=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what it may do in other releases
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return plain(loaded, 0)
    except pickle.UnpicklingError as error:
        asked = _TORCH_GLOBAL.search(str(error))
        what = (
            "holds more than tensors and plain values" if asked is None else f"asks for {asked[1]!a}, which is no data"
        )
        message = f"refused to read {path}: it {what}"
        raise UnsafeFileError(message, hint="save it as .npz or .safetensors", path=path) from error
    except TORCH_LOAD_ERRORS as error:
        raise _damaged(path, error) from error


def _torch_protocol(data: bytes) -> int:
    """The protocol of the pickle within, by its first two bytes; torch's if they say none, so that torch judges."""
    start = data[:2]
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(pickled) as stream:
                start = stream.read(2)
    return start[1] if start[:1] == b"\x80" and len(start) == 2 else TORCH_PROTOCOL


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = str(error).partition("\n")[0][:120]
    return DataError(f"{path} is damaged: {reason or type(error).__name__}", hint="write it again", path=path)


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
    import safetensors.numpy

    arrays, texts, metadata = _arrays_and_metadata(columns)
    for name, value in texts.items():  # as a tensor: the header, where metadata goes, is limited in size
        arrays[name + _JSON_SUFFIX] = np.frombuffer(json.dumps(value).encode("ascii"), dtype=np.uint8)
    return bytes(safetensors.numpy.save(arrays, metadata={"clr": metadata}))


_ENCODERS: dict[str, Callable[[Columns], bytes]] = {
    ".pkl": _encode_pickle,
    ".pickle": _encode_pickle,
    ".npz": _encode_npz,
    ".safetensors": _encode_safetensors,
    ".parquet": parquet_format.encode,
}

"""Files of torch.save. The zip files of today are read by our own machine, without torch; older ones by torch itself.

Stand-ins make arrays of the storages: no module is imported, no function of the file's choosing is called.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, UnsafeFileError
from contrastive_cli.embeddings.unpacking import read_member
from contrastive_cli.pickles import reader
from contrastive_cli.pickles.arrays import ArrayPlan, PickledArray
from contrastive_cli.pickles.refusals import Global, RefusedError

TORCH_PROTOCOL = 2
LEGACY = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", re.DOTALL)
HINT = "save tensors, arrays and plain values only: torch.save({'embeddings': tensor, 'paths': paths}, 'x.pt')"
DENSE_HINT = "save it as a plain one: tensor.to_dense() or tensor.dequantize()"

_ASKED = re.compile(r"GLOBAL (\S{1,100})")
_BFLOAT16 = "bfloat16"
_STORAGES = {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": _BFLOAT16, "Long": "i8", "Int": "i4", "Short": "i2",
    "Char": "i1", "Byte": "u1", "Bool": "b1", "ComplexFloat": "c8", "ComplexDouble": "c16",
    "QInt8": "i1", "QUInt8": "u1", "QInt32": "i4",
}  # fmt: skip
_CONSTANTS = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128", "per_tensor_affine", "per_channel_affine",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Storage:
    """The numbers that tensors are views of; bfloat16 as uint16."""

    numbers: NDArray[Any]
    code: str


def is_torch(archive: zipfile.ZipFile) -> bool:
    """Whether a zip file is one of torch.save."""
    return any(name.endswith("/data.pkl") for name in archive.namelist())


def decode(archive: zipfile.ZipFile, *, num_bytes: int) -> Any:
    """The plain values and arrays in a zip file of torch.save, whose members have been checked.

    Raises:
        UnsafeFileError: If it asks for anything but tensors, arrays and plain values.
        DataError: If it holds tensors of another kind, or one larger than the file.
    """
    members = {member.filename: member for member in archive.infolist()}
    pickled = next(name for name in members if name.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    sign = ">" if order is not None and read_member(archive, order) == b"big" else "<"
    opened: dict[str, _Storage] = {}

    def storage(identity: Any) -> _Storage:
        if type(identity) is not tuple or len(identity) != 5 or [type(part) for part in identity[:3]] != [str] * 3:
            raise RefusedError("a storage is named in an unusual way")
        _, code, key, *_ = identity
        member = members.get(f"{folder}data/{key}")
        if (
            code not in _STORAGES.values()
            or member is None
            or opened.get(key, _Storage(np.empty(0), code)).code != code
        ):
            raise RefusedError("it names a storage that it does not hold")
        if key not in opened:
            dtype = {_BFLOAT16: "u2", "b1": "u1"}.get(str(code), str(code))
            opened[key] = _Storage(np.frombuffer(read_member(archive, member), np.dtype(sign + dtype)), code)
        return opened[key]

    try:
        return reader.load(read_member(archive, members[pickled]), names=_names(num_bytes), storage=storage)
    except UnsafeFileError as error:
        raise UnsafeFileError(error.message, hint=HINT) from None


def decode_legacy(data: bytes) -> Any:
    """The same from what torch wrote before 1.6, by torch's own reader of weights.

    Raises:
        UnsafeFileError: If it asks for anything but tensors and plain values.
        DataError: If it holds tensors of another kind, or one larger than the file.
        ValueError, or another error of torch: If it is damaged.
    """
    import torch

    seen: dict[int, Any] = {}

    def plain(value: Any, depth: int) -> Any:
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_meta or value.is_quantized:
                _refuse("sparse" if value.layout != torch.strided else "quantized" if value.is_quantized else "empty")
            # A view of one number can claim any shape; only what the file holds is turned into an array.
            if value.numel() * value.element_size() > len(data):
                raise DataError("a tensor is larger than the file", hint="save tensor.clone()")
            value = value.detach().resolve_conj().resolve_neg()
            return (value.float() if value.is_floating_point() else value).numpy()  # numpy lacks half of the kinds
        if depth > reader.MAX_DEPTH:
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

    if (protocol := data[1]) != TORCH_PROTOCOL:
        message = f"it was saved with pickle_protocol={protocol}, of which torch itself reads only {TORCH_PROTOCOL}"
        raise UnsafeFileError(message, hint="save it by torch.save without that option")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what it may do in other releases
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return plain(loaded, 0)
    except pickle.UnpicklingError as error:
        asked = _ASKED.search(str(error))
        what = (
            "holds more than tensors and plain values" if asked is None else f"asks for {asked[1]!a}, which is no data"
        )
        raise UnsafeFileError(f"it {what}", hint=HINT) from error


def _names(num_bytes: int) -> dict[str, Global | str]:
    names: dict[str, Global | str] = {f"torch.{name}Storage": code for name, code in _STORAGES.items()}
    names |= {f"torch.{name}": name for name in _CONSTANTS}
    calls: dict[str, Callable[..., Any]] = {
        "torch._utils._rebuild_tensor_v2": _tensor_of(num_bytes),
        "torch._utils._rebuild_parameter": _parameter,
        "torch.Size": _size,
        "torch.device": _text,
        "torch.serialization._get_layout": _text,
        "torch._utils._rebuild_sparse_tensor": lambda *_: _refuse("sparse"),
        "torch._utils._rebuild_meta_tensor_no_storage": lambda *_: _refuse("empty"),
        "torch._utils._rebuild_qtensor": lambda *_: _refuse("quantized"),
    }
    return names | {name: Global(name, call) for name, call in calls.items()}


def _tensor_of(num_bytes: int) -> Callable[..., PickledArray]:
    def tensor(
        storage: Any, offset: Any, size: Any, stride: Any, gradient: Any, hooks: Any, metadata: Any = None, /
    ) -> PickledArray:
        del gradient, hooks
        shaped = type(size) is tuple and type(stride) is tuple and len(size) == len(stride) <= reader.MAX_DEPTH
        if type(storage) is not _Storage or not shaped:
            raise RefusedError("a tensor is made in an unusual way")
        if any(type(number) is not int or number < 0 for number in (offset, *size, *stride)):
            raise RefusedError("a tensor has no valid shape")
        numbers, count = storage.numbers, math.prod(size)
        if count * numbers.itemsize > num_bytes:  # a view of one number can claim any shape
            raise DataError("a tensor is larger than the file", hint="save tensor.clone()")
        if count and offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= len(numbers):
            raise RefusedError("a tensor reaches beyond its storage")
        steps = [step * numbers.itemsize for step in stride]
        view = np.lib.stride_tricks.as_strided(numbers[offset if count else 0 :], size, steps, writeable=False)
        dtype = np.dtype(bool) if storage.code == "b1" else numbers.dtype
        negated = type(metadata) is dict and metadata.get("neg") is True
        return PickledArray(
            ArrayPlan(view, dtype, size, "C", is_bfloat16=storage.code == _BFLOAT16, is_negated=negated)
        )

    return tensor


def _parameter(tensor: Any, gradient: Any, hooks: Any, /) -> PickledArray:
    del gradient, hooks
    if type(tensor) is not PickledArray:
        raise RefusedError("a parameter is no tensor")
    return tensor


def _size(size: Any, /) -> tuple[int, ...]:
    if type(size) is not tuple or any(type(number) is not int for number in size):
        raise RefusedError("a size is made in an unusual way")
    return size


def _text(*parts: Any) -> str:
    if not parts or type(parts[0]) is not str:
        raise RefusedError("a device or a layout is made in an unusual way")
    return parts[0]


def _refuse(kind: str) -> NoReturn:
    raise DataError(f"it holds {kind} tensors, which are not read", hint=DENSE_HINT)

"""What an honest numpy pickle asks for, as plans that are checked first and carried out last.

numpy itself trusts the state in a pickle, so it never sees one here. Only the dtype code, the byte order, the shape
and the bytes are taken over, and the array is made by `numpy.frombuffer` after shape x itemsize was found equal to the
length of the bytes.
Left out on purpose: structured, datetime and long double types, and objects other than text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DIMENSIONS = 32
TEXT_HINT = "save it as .npz or .safetensors, which hold data only"
CONVERTERS = {
    "pandas": "convert it first: numpy.savez('x.npz', embeddings=frame.to_numpy())",
    "torch": "save it with torch.save(...), or convert it: numpy.savez('x.npz', embeddings=tensor.numpy())",
    "pathlib": "store the paths as text: [str(path) for path in paths]",
}

_CODE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|O8?|U\d{1,6}|S\d{1,6}")
_MAX_CODE_POINT = 0x10FFFF


class RefusedError(Exception):
    """The pickle asks for something that is not data, or is malformed; the message says what."""

    def __init__(self, message: str, *, hint: str = TEXT_HINT) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(slots=True)
class PickledDtype:
    """A dtype as the pickle describes it: a checked code and a byte order."""

    code: str
    order: str = "="

    def to_numpy(self) -> np.dtype[Any]:
        """The real dtype, made from the checked code alone."""
        return np.dtype(self.code if self.code[0] in "OSb" else self.order + self.code)


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """All that is needed to make an array; nothing is allocated yet."""

    data: memoryview | list[Any]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    axes: tuple[int, ...] | None = None
    is_scalar: bool = False

    @property
    def size(self) -> int:
        """Bytes the array will take."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(slots=True)
class PickledArray:
    """An array that the pickle has announced and, once `plan` is set, described."""

    plan: ArrayPlan | None = None


@dataclass(frozen=True, slots=True)
class Global:
    """A name on the list below. It is only ever called with arguments that it checks itself."""

    name: str
    call: Callable[..., Any]


def find_global(module: str, name: str) -> Global:
    """The stand-in for `module.name`; every name that is not on the list is refused."""
    found = _GLOBALS.get(f"{module}.{name}")
    if found is None:
        raise RefusedError(
            f"it asks for {f'{module}.{name}'[:100]!a}, which is not data",
            hint=CONVERTERS.get(module.partition(".")[0], TEXT_HINT),
        )
    return found


def build(target: Any, state: Any) -> None:
    """What the BUILD opcode does: give a dtype its byte order, or an array its description."""
    if type(target) is PickledDtype:
        _build_dtype(target, state)
    elif type(target) is PickledArray and target.plan is None:
        target.plan = _plan_of_state(state)
    else:
        raise RefusedError(f"it sets the state of a {type(target).__name__}")


def carry_out(plan: ArrayPlan) -> Any:
    """Make the array (a copy, writable, in native byte order) or the scalar."""
    if isinstance(plan.data, list):
        array: NDArray[Any] = np.empty(len(plan.data), dtype=object)
        array[:] = plan.data
    elif plan.dtype.kind == "b":  # any byte but 0 and 1 would be an invalid bool
        array = np.frombuffer(plan.data, dtype=np.uint8) != 0
    else:
        array = np.frombuffer(plan.data, dtype=plan.dtype).astype(plan.dtype.newbyteorder("="))
    if plan.dtype.kind == "U" and plan.size:
        points = np.ascontiguousarray(array).view(np.uint32)
        if int(points.max()) > _MAX_CODE_POINT:
            raise RefusedError("an array of text holds characters that do not exist")
    array = array.reshape(plan.shape, order="F" if plan.order == "F" else "C")
    if plan.axes is not None:
        array = array.transpose(plan.axes)
    return array[()] if plan.is_scalar else array


def _build_dtype(target: PickledDtype, state: Any) -> None:
    if type(state) is not tuple or len(state) != 8 or state[0] != 3 or any(part is not None for part in state[2:5]):
        raise RefusedError("a dtype is structured or malformed")
    if state[1] not in ("<", ">", "|", "="):
        raise RefusedError("a dtype has no valid byte order")
    if state[5:] != np.dtype(target.code).__reduce__()[2][5:]:  # size, alignment and flags follow from the code
        raise RefusedError("a dtype has a state that does not belong to it")
    target.order = "=" if state[1] == "|" else state[1]


def _plan_of_state(state: Any) -> ArrayPlan:
    if type(state) is not tuple or len(state) != 5 or state[0] != 1 or type(state[3]) not in (bool, int):
        raise RefusedError("an array has a malformed state")
    _, shape, dtype, is_fortran, data = state
    return _plan(data, dtype, shape, order="F" if is_fortran else "C")


def _plan(data: Any, dtype: Any, shape: Any, *, order: str, axes: tuple[int, ...] | None = None) -> ArrayPlan:
    if type(dtype) is not PickledDtype:
        raise RefusedError("an array has no valid dtype")
    if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise RefusedError("an array has no valid shape")
    made = dtype.to_numpy()
    if made.kind == "O":
        if type(data) is not list or len(data) != math.prod(shape) or any(type(item) is not str for item in data):
            raise RefusedError("an array of objects holds something other than text", hint="make it an array of str")
    elif type(data) is not memoryview or made.itemsize == 0 or len(data) != math.prod(shape) * made.itemsize:
        raise RefusedError("the shape of an array does not match its bytes")
    return ArrayPlan(data=data, dtype=made, shape=shape, order=order, axes=axes)


def _dtype(code: Any, align: Any = False, copy: Any = True, /) -> PickledDtype:
    del align, copy
    if type(code) is not str or not _CODE.fullmatch(code):
        raise RefusedError(f"it holds numbers of the type {ascii(code)[:40]}", hint="convert them to float32 or int64")
    return PickledDtype(code)


def _reconstruct(kind: Any, shape: Any, code: Any, /) -> PickledArray:
    if kind is not _NDARRAY or shape != (0,) or code != b"b":
        raise RefusedError("an array is announced in an unusual way")
    return PickledArray()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None, /) -> PickledArray:
    if order not in ("C", "F", "K"):
        raise RefusedError("an array has no valid order")
    if order != "K":
        return PickledArray(_plan(data, dtype, shape, order=order))
    if type(axes) is not tuple or type(shape) is not tuple or any(type(axis) is not int for axis in axes):
        raise RefusedError("an array has no valid order of axes")
    if sorted(axes) != list(range(len(shape))):
        raise RefusedError("an array has no valid order of axes")
    return PickledArray(_plan(data, dtype, shape, order="C", axes=axes))


def _scalar(dtype: Any, data: Any, /) -> PickledArray:
    plan = _plan(data, dtype, (), order="C")
    return PickledArray(ArrayPlan(data=plan.data, dtype=plan.dtype, shape=(), order="C", is_scalar=True))


def _encode(text: Any, encoding: Any, /) -> memoryview:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise RefusedError("it decodes text in an unusual way")
    return memoryview(text.encode("latin1"))


def _empty_bytes() -> memoryview:
    return memoryview(b"")


def _never(*_: Any) -> Any:
    raise RefusedError("it calls numpy.ndarray directly")


_NDARRAY = Global("numpy.ndarray", _never)
_GLOBALS: dict[str, Global] = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": Global("numpy.dtype", _dtype),
    "_codecs.encode": Global("_codecs.encode", _encode),
    "builtins.bytes": Global("builtins.bytes", _empty_bytes),
    "__builtin__.bytes": Global("builtins.bytes", _empty_bytes),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    _GLOBALS[f"{_core}.multiarray._reconstruct"] = Global("numpy._reconstruct", _reconstruct)
    _GLOBALS[f"{_core}.multiarray.scalar"] = Global("numpy.scalar", _scalar)
    _GLOBALS[f"{_core}.numeric._frombuffer"] = Global("numpy._frombuffer", _frombuffer)

"""What an honest numpy pickle asks for, as plans that are checked first and carried out last.

numpy itself trusts the state in a pickle, so it never sees one here. Only the dtype code, the byte order, the shape
and the bytes are taken over, and the array is made by `numpy.frombuffer` after shape x itemsize was found equal to the
length of the bytes. An array of objects is a list of other values of the pickle, and becomes a list.
Left out on purpose: structured, datetime and long double types.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.pickles.refusals import Global, RefusedError

MAX_DIMENSIONS = 32

_CODE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|O8?|U\d{1,6}|S\d{1,6}")
_MAX_CODE_POINT = 0x10FFFF


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

    data: memoryview | list[Any] | NDArray[Any]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    axes: tuple[int, ...] | None = None
    is_scalar: bool = False
    is_bfloat16: bool = False  # the upper halves of float32, as uint16
    is_negated: bool = False

    @property
    def size(self) -> int:
        """Bytes the array will take."""
        return math.prod(self.shape) * self.dtype.itemsize * (2 if self.is_bfloat16 else 1)


@dataclass(slots=True)
class PickledArray:
    """An array that the pickle has announced and, once `plan` is set, described."""

    plan: ArrayPlan | None = None


def build(target: Any, state: Any) -> None:
    """What the BUILD opcode does: give a dtype its byte order, or an array its description."""
    if type(target) is PickledDtype:
        _build_dtype(target, state)
    elif type(target) is PickledArray and target.plan is None:
        target.plan = _plan_of_state(state)
    else:
        raise RefusedError(f"it sets the state of a {type(target).__name__}")


def carry_out(plan: ArrayPlan) -> Any:
    """Make the array (a copy, writable, in native byte order) or the scalar; objects must be text."""
    if isinstance(plan.data, np.ndarray):
        native = plan.data.astype(plan.dtype.newbyteorder("="), order="C")
        made: NDArray[Any] = upper_halves(native) if plan.is_bfloat16 else native
        return -made if plan.is_negated else made
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
    # Objects are listed row by row, whatever their order in memory was.
    array = array.reshape(plan.shape, order="F" if plan.order == "F" and not isinstance(plan.data, list) else "C")
    if plan.axes is not None:
        array = array.transpose(plan.axes)
    return array[()] if plan.is_scalar else array


def upper_halves(halves: NDArray[Any]) -> NDArray[np.float32]:
    """bfloat16, whose bits are given as uint16, to float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def objects_of(plan: ArrayPlan, items: list[Any]) -> Any:
    """The items of an array of objects as nested lists of its shape; the item itself without a dimension."""
    array = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):  # a slice would look into items that are sequences
        array[position] = item
    array = array.reshape(plan.shape)
    return (array if plan.axes is None else array.transpose(plan.axes)).tolist()


def _build_dtype(target: PickledDtype, state: Any) -> None:
    if type(state) is not tuple or len(state) != 8 or state[0] != 3 or any(part is not None for part in state[2:5]):
        raise RefusedError("a dtype is structured or malformed")
    order = text_of(state[1])
    if order not in ("<", ">", "|", "="):
        raise RefusedError("a dtype has no valid byte order")
    if state[5:] != np.dtype(target.code).__reduce__()[2][5:]:  # size, alignment and flags follow from the code
        raise RefusedError("a dtype has a state that does not belong to it")
    target.order = "=" if order == "|" else order


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
        if type(data) is not list or len(data) != math.prod(shape):
            raise RefusedError("the shape of an array does not match its objects")
    elif type(data) is not memoryview or made.itemsize == 0 or len(data) != math.prod(shape) * made.itemsize:
        raise RefusedError("the shape of an array does not match its bytes")
    return ArrayPlan(data=data, dtype=made, shape=shape, order=order, axes=axes)


def _dtype(code: Any, align: Any = False, copy: Any = True, /) -> PickledDtype:
    del align, copy
    code = text_of(code)
    if type(code) is not str or not _CODE.fullmatch(code):
        raise RefusedError(f"it holds numbers of the type {ascii(code)[:40]}", hint="convert them to float32 or int64")
    return PickledDtype(code)


def text_of(value: Any) -> Any:
    """Text of Python 2, which is bytes, as text; anything else as it is."""
    return str(value, "latin1") if type(value) is memoryview else value


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
ARRAY_NAMES: dict[str, Global] = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": Global("numpy.dtype", _dtype),
    "_codecs.encode": Global("_codecs.encode", _encode),
    "builtins.bytes": Global("builtins.bytes", _empty_bytes),
    "__builtin__.bytes": Global("builtins.bytes", _empty_bytes),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    ARRAY_NAMES[f"{_core}.multiarray._reconstruct"] = Global("numpy._reconstruct", _reconstruct)
    ARRAY_NAMES[f"{_core}.multiarray.scalar"] = Global("numpy.scalar", _scalar)
    ARRAY_NAMES[f"{_core}.numeric._frombuffer"] = Global("numpy._frombuffer", _frombuffer)

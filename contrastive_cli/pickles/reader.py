"""Read a stranger's pickle without trusting it: `load` returns plain Python and numpy values or refuses the file.

The file is run by our own small machine (opcodes.py), never by `pickle`; what it leaves is walked here, with a
limit on depth and on memory, and only exact plain types come out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import DataError, UnsafeFileError
from contrastive_cli.pickles.arrays import PickledArray, carry_out, objects_of
from contrastive_cli.pickles.machine import TOO_LARGE, Machine
from contrastive_cli.pickles.opcodes import run
from contrastive_cli.pickles.refusals import TEXT_HINT, Global, RefusedError

MAX_BYTES = 8 << 30
MAX_DEPTH = 32

_ATOMS = {int, float, bool, type(None)}
_MALFORMED = (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error)


class DamagedPickleError(UnsafeFileError):
    """The pickle ends early or is none; it is no more to be trusted than one that asks for what is no data."""


def load(
    source: Path | bytes,
    *,
    max_bytes: int = MAX_BYTES,
    names: Mapping[str, Global | str] | None = None,
    storage: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle of plain values: dict, list, tuple, str, bytes, int, float, bool, None, numpy arrays and scalars.

    OrderedDict and defaultdict become dicts, arrays of objects other than text become lists.

    Args:
        source: The file, or its content.
        max_bytes: Larger files are refused unread.
        names: What is known beside plain data, by dotted name: a stand-in or a constant.
        storage: Opens what a persistent id stands for; without it there are none.

    Raises:
        UnsafeFileError: If the pickle asks for anything else, is malformed, or needs far too much memory.
        DataError: If the file cannot be read.
    """
    path = None if isinstance(source, bytes) else source
    name = "the pickle" if path is None else str(path)
    try:
        data = source if isinstance(source, bytes) else _read(source, max_bytes)
        if len(data) > max_bytes:
            raise RefusedError(f"it is larger than {max_bytes / 1e9:.1f} GB")
        machine = Machine(data, names=names, storage=storage)
        value, size = _Resolver(machine).resolve(run(machine), depth=0)
        if size > machine.budget:  # a list of the same list of the same list ...
            raise RefusedError(TOO_LARGE)
        return value
    except RefusedError as error:
        raise UnsafeFileError(f"refused to read {name}: {error}", hint=error.hint, path=path) from None
    except MemoryError:
        raise UnsafeFileError(f"refused to read {name}: out of memory", hint=TEXT_HINT, path=path) from None
    except _MALFORMED:
        raise DamagedPickleError(
            f"refused to read {name}: it is damaged or not a pickle of plain data", hint=TEXT_HINT, path=path
        ) from None


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file", path=path)
        if path.stat().st_size > max_bytes:
            raise RefusedError(f"it is larger than {max_bytes / 1e9:.1f} GB")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", path=path) from error


class _Resolver:
    """Turns what the machine left into plain values: arrays are made here, everything unknown is refused."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.done: dict[int, tuple[Any, int] | None] = {}  # None: not finished, so meeting it again is a cycle

    def resolve(self, value: Any, *, depth: int) -> tuple[Any, int]:
        """The plain value and the bytes it would take if nothing in it were shared."""
        kind = type(value)
        if kind in _ATOMS:
            return value, 8
        if kind is str:
            return value, 8 + len(value)
        if depth > MAX_DEPTH:
            raise RefusedError(f"it is nested deeper than {MAX_DEPTH} levels")
        if id(value) not in self.done:
            self.done[id(value)] = None
            self.done[id(value)] = self._open(value, depth=depth)
        found = self.done[id(value)]
        if found is None:
            raise RefusedError("it contains itself")
        return found

    def _open(self, value: Any, *, depth: int) -> tuple[Any, int]:
        kind = type(value)
        if kind is list or kind is tuple:
            items, size = self._items(value, depth=depth)
            return (items if kind is list else tuple(items)), size
        if kind is dict:
            items, size = self._items(list(value.values()), depth=depth)
            return dict(zip(value, items, strict=True)), size + 16 * len(items)
        if kind is memoryview:
            return value.tobytes(), 8 + len(value)
        if kind is PickledArray and value.plan is not None:
            self.machine.spend(value.plan.size)  # before it is allocated
            data = value.plan.data
            if isinstance(data, list) and any(type(item) is not str for item in data):
                items, size = self._items(data, depth=depth)
                return objects_of(value.plan, items), size + value.plan.size
            return carry_out(value.plan), 8 + value.plan.size
        what = value.name if isinstance(value, Global) else "an unfinished array or dtype"
        raise RefusedError(f"it holds {what} itself instead of data")

    def _items(self, items: list[Any] | tuple[Any, ...], *, depth: int) -> tuple[list[Any], int]:
        kinds = set(map(type, items))
        if kinds <= _ATOMS:
            return list(items), 8 * len(items)
        if kinds == {str}:
            return list(items), 8 * len(items) + sum(map(len, items))
        resolved = [self.resolve(item, depth=depth + 1) for item in items]
        return [item for item, _ in resolved], sum(size for _, size in resolved)

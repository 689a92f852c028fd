"""A machine that runs the opcodes of plain data and no others.

There is no scan that a second reader could see differently: what is checked is what is run. It imports nothing, calls
nothing of the file's choosing, ignores FRAMEs, keeps the memo in a dict (a huge index costs nothing), and counts the
bytes it is made to allocate. What is not in the table at the end is refused: INST, OBJ, NEWOBJ, the extension
registry, sets, quoted strings, a second pickle after the first; persistent ids are read where torch numbers storages.
Opcodes: the comments of CPython's pickletools.py.
"""

from __future__ import annotations

import codecs
import pickletools
import struct
from collections.abc import Callable
from typing import Any

from contrastive_cli.pickles.arrays import build
from contrastive_cli.pickles.containers import key_of
from contrastive_cli.pickles.machine import Machine
from contrastive_cli.pickles.refusals import Global, RefusedError

MAX_STEPS = 200_000_000
MAX_MARKS = 100
MAX_INT_BYTES = 16
MAX_NUMBER_LINE = 64
MAX_PROTOCOL = 5

_STOP, _BINFLOAT = ord("."), ord("G")
_DOUBLE = struct.Struct(">d")
_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


def run(machine: Machine) -> Any:
    """Run a pickle to its end and return what it leaves: plain values, and plans of arrays."""
    data = machine.data
    for _ in range(MAX_STEPS):
        opcode = data[machine.at]
        machine.at += 1
        if opcode == _STOP:
            return machine.finish()
        handler = _HANDLERS[opcode]
        if handler is None:
            raise RefusedError(_why_refused(machine, opcode))
        handler(machine)
    raise RefusedError(f"it has more than {MAX_STEPS} steps")


def _why_refused(machine: Machine, opcode: int) -> str:
    name = _NAMES.get(opcode)
    if name is None:
        return "it is damaged or not a pickle"
    if name == "INST":
        machine.find(*(machine.line().decode("ascii", "backslashreplace") for _ in range(2)))
    return _unneeded(name)


def _unneeded(name: str) -> str:
    return f"it uses {name}, which plain data does not need"


def _push(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


def _fixed(width: int, decode: Callable[[memoryview], Any]) -> Callable[[Machine], None]:
    """An argument of `width` bytes."""
    return lambda machine: machine.stack.append(decode(machine.take(width)))


def _counted(width: int, decode: Callable[[memoryview], Any]) -> Callable[[Machine], None]:
    """An argument that follows its own length, a number of `width` bytes."""

    def handler(machine: Machine) -> None:
        count = int.from_bytes(machine.take(width), "little")
        machine.stack.append(decode(machine.take(count)))

    return handler


def _text(view: memoryview) -> str:
    return str(view, "utf-8", "surrogatepass")


def _doubles(machine: Machine) -> None:
    """A whole run of BINFLOATs, because lists of vectors hold millions of them."""
    data, at, push = machine.data, machine.at, machine.stack.append
    push(_DOUBLE.unpack_from(data, at)[0])
    at += 8
    while data[at] == _BINFLOAT:
        push(_DOUBLE.unpack_from(data, at + 1)[0])
        at += 9
    machine.at = at


def _unsigned(view: memoryview) -> int:
    return int.from_bytes(view, "little")


def _signed(view: memoryview) -> int:
    if len(view) > MAX_INT_BYTES:
        raise RefusedError("it holds an integer of an unusual size")
    return int.from_bytes(view, "little", signed=True)


def _number_line(machine: Machine) -> str:
    line = machine.line()
    if len(line) > MAX_NUMBER_LINE:
        raise RefusedError("it holds a number of an unusual length")
    return line.decode("ascii")


def _int_line(machine: Machine) -> None:
    text = _number_line(machine)
    machine.stack.append({"00": False, "01": True}[text] if text in ("00", "01") else int(text.removesuffix("L")))


def _protocol(machine: Machine) -> None:
    if machine.take(1)[0] > MAX_PROTOCOL:
        raise RefusedError(f"it uses a pickle protocol newer than {MAX_PROTOCOL}")


def _frame(machine: Machine) -> None:
    machine.take(8)  # a length that only tells readers how far to read ahead


def _mark(machine: Machine) -> None:
    if len(machine.below) >= MAX_MARKS:
        raise RefusedError("it is nested too deeply")
    machine.below.append(machine.stack)
    machine.stack = []


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def handler(machine: Machine) -> None:
        if len(machine.stack) < count:
            raise RefusedError("it takes from an empty stack")
        items = tuple(machine.stack[-count:])
        del machine.stack[-count:]
        machine.push_container(items)

    return handler


def _extend(machine: Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not list:
        raise RefusedError("it appends to something that is not a list")
    target.extend(items)


def _update(machine: Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not dict or len(items) % 2:
        raise RefusedError("it sets items of something that is not a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key_of(key)] = value


def _dict_of(items: list[Any]) -> dict[Any, Any]:
    if items:  # only protocol 0 uses DICT, and it leaves the dict empty
        raise RefusedError("a dict is written in an unusual way")
    return {}


def _set_item(machine: Machine) -> None:
    value = machine.stack.pop()
    _update(machine, [machine.stack.pop(), value])


def _put(machine: Machine, index: int) -> None:
    if index > len(machine.data):  # a pickler counts from 0; here it would only be odd, elsewhere it allocates
        raise RefusedError("it has a memo index larger than its size")
    machine.memo[index] = machine.stack[-1]


def _get(machine: Machine, index: int) -> None:
    machine.stack.append(machine.memo[index])


def _global_line(machine: Machine) -> None:
    module, name = (machine.line().decode("ascii", "backslashreplace") for _ in range(2))
    machine.stack.append(machine.find(module, name))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise RefusedError("it asks for a global without a name")
    machine.stack.append(machine.find(module, name))


def _reduce(machine: Machine) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if type(function) is not Global or type(arguments) is not tuple:
        raise RefusedError("it calls something that is not a function")
    result = function.call(*arguments)
    machine.spend(len(result) if isinstance(result, memoryview | str) else 0)
    machine.push_container(result)


def _storage(machine: Machine) -> None:
    if machine.storage is None:
        raise RefusedError(_unneeded("BINPERSID"))
    machine.stack.append(machine.storage(machine.stack.pop()))


def _build(machine: Machine) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    # The weights of a torch model are an OrderedDict with an attribute, which is no data.
    if machine.storage is not None and type(target) is dict and type(state) is dict and state.keys() <= {"_metadata"}:
        return
    build(target, state)


_TABLE: dict[str, Callable[[Machine], None]] = {
    "PROTO": _protocol,
    "FRAME": _frame,
    "MARK": _mark,
    "NONE": _push(None),
    "NEWTRUE": _push(True),
    "NEWFALSE": _push(False),
    "INT": _int_line,
    "LONG": _int_line,
    "FLOAT": lambda machine: machine.stack.append(float(_number_line(machine))),
    "BININT": _fixed(4, _signed),
    "BININT1": _fixed(1, _unsigned),
    "BININT2": _fixed(2, _unsigned),
    "LONG1": _counted(1, _signed),
    "LONG4": _counted(4, _signed),
    "BINFLOAT": _doubles,
    "UNICODE": lambda machine: machine.stack.append(codecs.raw_unicode_escape_decode(machine.line())[0]),
    "SHORT_BINUNICODE": _counted(1, _text),
    "BINUNICODE": _counted(4, _text),
    "BINUNICODE8": _counted(8, _text),
    "SHORT_BINSTRING": _counted(1, memoryview),  # what Python 2 calls str, which held bytes
    "BINSTRING": _counted(4, memoryview),
    "SHORT_BINBYTES": _counted(1, memoryview),
    "BINBYTES": _counted(4, memoryview),
    "BINBYTES8": _counted(8, memoryview),
    "BYTEARRAY8": _counted(8, memoryview),
    "EMPTY_TUPLE": _push(()),
    "TUPLE": lambda machine: machine.push_container(tuple(machine.since_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "EMPTY_LIST": lambda machine: machine.push_container([]),
    "LIST": lambda machine: machine.push_container(machine.since_mark()),
    "APPEND": lambda machine: _extend(machine, [machine.stack.pop()]),
    "APPENDS": lambda machine: _extend(machine, machine.since_mark()),
    "EMPTY_DICT": lambda machine: machine.push_container({}),
    "DICT": lambda machine: machine.push_container(_dict_of(machine.since_mark())),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine: _update(machine, machine.since_mark()),
    "GET": lambda machine: _get(machine, int(_number_line(machine))),
    "BINGET": lambda machine: _get(machine, machine.take(1)[0]),
    "LONG_BINGET": lambda machine: _get(machine, _unsigned(machine.take(4))),
    "PUT": lambda machine: _put(machine, int(_number_line(machine))),
    "BINPUT": lambda machine: _put(machine, machine.take(1)[0]),
    "LONG_BINPUT": lambda machine: _put(machine, _unsigned(machine.take(4))),
    "MEMOIZE": lambda machine: _put(machine, len(machine.memo)),
    "GLOBAL": _global_line,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
    "BINPERSID": _storage,
}
_HANDLERS: list[Callable[[Machine], None] | None] = [_TABLE.get(_NAMES.get(code, "")) for code in range(256)]

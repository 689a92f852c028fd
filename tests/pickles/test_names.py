"""The tables of what a pickle may ask for are pinned: a line more is a decision, not an accident."""

from __future__ import annotations

import pickle
import struct
import time
import tracemalloc
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import malicious_pickles
import numpy as np
import pytest

from contrastive_cli.core.errors import UnsafeFileError
from contrastive_cli.pickles import reader
from contrastive_cli.pickles.machine import TOO_LARGE
from contrastive_cli.pickles.names import _GLOBALS
from contrastive_cli.pickles.opcodes import _TABLE

CORPUS = malicious_pickles.corpus()


def test_globals__are_these_and_no_others() -> None:
    types = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in
             ("bytes", "list", "dict", "set", "tuple", "int", "float", "str")}  # fmt: skip
    arrays = {
        f"{core}.{name}"
        for core in ("numpy.core", "numpy._core")
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    }
    others = {"numpy.ndarray", "numpy.dtype", "_codecs.encode", "collections.OrderedDict", "collections.defaultdict"}
    assert set(_GLOBALS) == types | arrays | others


def test_table__holds_these_opcodes_and_no_others() -> None:
    assert set(_TABLE) == {
        "PROTO", "FRAME", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "FLOAT", "BININT", "BININT1",
        "BININT2", "LONG1", "LONG4", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
        "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "EMPTY_TUPLE",
        "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT",
        "SETITEM", "SETITEMS", "GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GLOBAL",
        "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID",
    }  # fmt: skip


@pytest.mark.parametrize("dotted", [name for name in malicious_pickles.DANGEROUS if "collections" not in name])
def test_load__the_message_names_the_global(dotted: str) -> None:
    """The refusal comes from the name, not from an accident on the way to the call."""
    for opcode in ("REDUCE", "REDUCE-protocol-0", "STACK_GLOBAL", "bare", "inside-a-dict"):
        with pytest.raises(UnsafeFileError) as caught:
            reader.load(CORPUS[f"{opcode}:{dotted}"])
        assert f"asks for '{dotted}', which is not data" in caught.value.message


def test_load__dicts_of_collections_become_dicts() -> None:
    ordered = OrderedDict([("a", np.arange(3)), ("b", np.ones(3))])
    several: dict[str, list[float]] = defaultdict(list, {"a": [1.0], "b": [2.0, 3.0]})
    for protocol in range(6):
        found = reader.load(pickle.dumps(ordered, protocol=protocol))
        assert type(found) is dict
        assert list(found) == ["a", "b"]
        np.testing.assert_array_equal(found["a"], np.arange(3))
        assert reader.load(pickle.dumps(several, protocol=protocol)) == dict(several)
    for factory in (None, dict, int, float, str, set, tuple):
        made: dict[str, int] = defaultdict(factory, a=1)  # type: ignore[arg-type]
        assert reader.load(pickle.dumps(made)) == {"a": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"ccollections\ndefaultdict\n(cos\nsystem\ntR.",
        b"ccollections\ndefaultdict\n(Vlist\ntR.",
        b"ccollections\ndefaultdict\n(cbuiltins\nbytes\ntR.",
        b"ccollections\ndefaultdict\n(cbuiltins\nlist\n}tR.",
        b"ccollections\nOrderedDict\n(Vab\ntR.",
        b"ccollections\nOrderedDict\n((VabtR.",
        b"ccollections\nOrderedDict\n((lp0\nVabc\natR.",
        b"ccollections\nOrderedDict\n(((lVa\nlatR.",
        b"ccollections\nOrderedDict\n)R}Va\nNsb.",
        b"cbuiltins\nlist\n(Vab\ntR.",
        b"cbuiltins\nstr\n(I1\ntR.",
        b"cbuiltins\nset\n.",
        b"cos\nsystem\n(Vtrue\ntQ.",
        b"\x80\x02U\x09os.systemQ.",
    ],
)
def test_load__forged_dicts_and_types_are_refused(data: bytes) -> None:
    with pytest.raises(UnsafeFileError):
        reader.load(data)


def test_load__python_2_wrote_bytes() -> None:
    """What cPickle of Python 2 writes at protocol 2: text, keys, and the codes of types are bytes."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    )
    data = b"\x80\x02}(U\x04dataq\x01" + array + b"U\x08" + np.array([1.5, -2], "<f4").tobytes() + b"tb"
    data += b"U\x05namesq\x02](U\x01aT" + struct.pack("<i", 1) + b"beu."
    found = reader.load(data)
    assert found[b"names"] == [b"a", b"b"]
    assert found[b"data"].tolist() == [1.5, -2]


@pytest.mark.parametrize("order", ["C", "F"])
def test_load__arrays_of_objects_become_lists(order: Any) -> None:
    rows = np.empty((2, 3), dtype=object, order=order)
    for position in np.ndindex(2, 3):
        rows[position] = [("a", np.ones(2), 3), ("b", np.zeros(2), 4)][position[0]][position[1]]
    for protocol in range(6):
        found = reader.load(pickle.dumps(rows, protocol=protocol))
        assert [[row[0], row[1].tolist(), row[2]] for row in found] == [["a", [1, 1], 3], ["b", [0, 0], 4]]
        alone = np.empty((), dtype=object)
        alone[()] = {"a": 1}
        assert reader.load(pickle.dumps(alone, protocol=protocol)) == {"a": 1}
        text = np.array([["a", "b"], ["c", "d"], ["e", "f"]], dtype=object, order=order)
        np.testing.assert_array_equal(reader.load(pickle.dumps(text, protocol=protocol)), text)


def test_load__objects_in_an_array_are_checked_as_all_else() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return print, ("executed",)

    rows = np.empty(2, dtype=object)
    rows[0] = [Evil()]
    for protocol in range(6):
        with pytest.raises(UnsafeFileError, match="print"):
            reader.load(pickle.dumps(rows, protocol=protocol))


def four_hundred_arrays() -> bytes:
    """400 arrays over one buffer of 4 MB, which the file holds once."""
    size = 4 << 20
    state = b"K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
    dtype = b"cnumpy\ndtype\n\x8c\x02u1\x89\x88\x87R(" + state + b"tb"
    shape = b"J" + struct.pack("<i", size) + b"\x85"
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01" + shape
    first = head + dtype + b"\x94\x89B" + struct.pack("<I", size) + bytes(size) + b"\x94tb"
    return b"\x80\x04(" + first + (head + b"h\x00\x89h\x01tb") * 399 + b"l."


def test_load__arrays_over_one_buffer_are_given_up_before_they_are_made() -> None:
    data = four_hundred_arrays()
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(UnsafeFileError, match=TOO_LARGE):
        reader.load(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 260e6  # all of them would take 1.7 GB
    assert time.process_time() - started < 5


def test_load__what_is_shared_is_counted_as_often_as_it_is_met() -> None:
    """Eight levels of lists of ten times the same list: 10^8 values in a few hundred bytes."""
    level = b"]\x94(" + b"N" * 10 + b"e"
    data = b"\x80\x04" + level
    for depth in range(8):
        data += b"]\x94(" + (b"h" + bytes([depth])) * 10 + b"e"
    data = b"\x80\x04(" + data[2:] + b"t."
    started = time.process_time()
    with pytest.raises(UnsafeFileError, match=TOO_LARGE):
        reader.load(data)
    assert time.process_time() - started < 2

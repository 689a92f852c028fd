from __future__ import annotations

import contextlib
import json
import pickle
import random
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import malicious_pickles
import numpy as np
import pytest
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, UnsafeFileError
from contrastive_cli.pickles import reader as safe_pickle

PROTOCOLS = range(6)
CORPUS = malicious_pickles.corpus()


def honest_values() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((5, 4))
    codes = ("f2", "f4", "f8", "c8", "c16", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">f4", ">f8", ">i8", ">u2")
    values: dict[str, Any] = {f"dtype-{code}": np.abs(matrix * 3).astype(code) for code in (*codes, "U3", ">U3", "S5")}
    values |= {
        "dtype-bool": matrix > 0,
        "fortran": np.asfortranarray(matrix),
        "strided": matrix[::2, ::-1],
        "transposed-3d": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
        "transposed-4d": np.arange(48).reshape(2, 3, 4, 2).transpose(3, 1, 0, 2),
        "0-d": np.array(2.5),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "object-text": np.array(["a.png", "\u00e9", ""], dtype=object),
        "object-text-2d": np.array([["a", "b"], ["c", "d"]], dtype=object),
        "scalars": [np.float32(1.5), np.float64(-2), np.int64(7), np.bool_(True), np.str_("abc"), np.uint8(255)],
        "plain": {"a": [1, -1, 2**31, -(2**63), 2**100, 1.5, float("inf"), True, False, None], "b": (), "c": (1, (2,))},
        "tuples": [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "text": ["", "a\nb", "\\u0041", "\u20ac", "\U0001f600", "caf\udce9", "x" * 300, "\r\x1a\x00"],
        "bytes": [b"", b"abc", bytes(range(256)), b"x" * 70_000],
        "integer-keys": {0: "a", -5: "b", 2**40: "c"},
        "nested": {"x": {"y": [{"z": matrix}]}, "again": matrix},
        "long-list": [f"{i}.png" for i in range(3000)],
        "rows": matrix.tolist(),
    }
    return values


HONEST = honest_values()


def assert_same(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, np.ndarray | np.generic):
        assert actual.dtype == expected.dtype.newbyteorder("=")
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(actual, expected)
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for left, right in zip(actual, expected, strict=True):
            assert_same(left, right)
    else:
        assert actual == expected


@pytest.mark.parametrize("name", HONEST)
def test_load__honest_values_round_trip(name: str) -> None:
    for protocol in PROTOCOLS:
        assert_same(safe_pickle.load(pickle.dumps(HONEST[name], protocol=protocol)), HONEST[name])


def under_old_names(data: bytes) -> bytes:
    """The same pickle as numpy 1 writes it: module names differ, and so do the lengths that stand before them."""
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        data = data.replace(b"\x8c" + bytes([len(new)]) + new, b"\x8c" + bytes([len(old)]) + old)
        data = data.replace(b"c" + new + b"\n", b"c" + old + b"\n")
    if data[2:3] == b"\x95":
        data = data[:3] + struct.pack("<Q", len(data) - 11) + data[11:]
    return data


@pytest.mark.parametrize("name", [name for name in HONEST if name.startswith(("dtype", "fortran", "0-d", "scalars"))])
def test_load__numpy_1_module_names(name: str) -> None:
    for protocol in PROTOCOLS:
        data = under_old_names(pickle.dumps(HONEST[name], protocol=protocol))
        assert b"_core" not in data
        assert_same(safe_pickle.load(data), HONEST[name])


def test_load__arrays_are_writable_and_own_their_memory() -> None:
    array: NDArray[Any] = safe_pickle.load(pickle.dumps(np.zeros(3), protocol=5))
    array[0] = 1
    assert array.flags.owndata or array.base is not None
    assert array[0] == 1


def test_load__shared_objects_stay_shared() -> None:
    array = np.zeros(3)
    first, second = safe_pickle.load(pickle.dumps([array, array]))
    assert first is second


def test_load__invalid_bools_become_valid() -> None:
    data = pickle.dumps(np.array([True, False, True]), protocol=4).replace(b"\x01\x00\x01", b"\x07\x00\xff")
    assert safe_pickle.load(data).view(np.uint8).tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", sorted({name.partition(":")[0] for name in CORPUS}))
def test_load__malicious_files_are_refused(kind: str) -> None:
    for data in (data for name, data in CORPUS.items() if name.startswith(f"{kind}:")):
        with pytest.raises(UnsafeFileError) as caught:
            safe_pickle.load(data)
        assert caught.value.exit_code == 4
        assert caught.value.hint
        assert caught.value.message.isprintable()


@pytest.mark.parametrize("opcode", ["REDUCE", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "bare", "inside-a-dict"])
def test_load__names_the_global_and_the_way_out(opcode: str) -> None:
    with pytest.raises(UnsafeFileError, match=r"'os\.system'") as caught:
        safe_pickle.load(CORPUS[f"{opcode}:os.system"])
    assert ".npz" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("dotted", "converter"), [("pandas.core.frame.DataFrame", "to_dict"), ("torch.load", "torch.save")]
)
def test_load__names_the_converter(dotted: str, converter: str) -> None:
    with pytest.raises(UnsafeFileError) as caught:
        safe_pickle.load(CORPUS[f"REDUCE:{dotted}"])
    assert converter in str(caught.value.hint)


def test_load__whole_corpus_under_an_audit_hook() -> None:
    root = Path(__file__).parents[2]
    script = Path(malicious_pickles.__file__)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(root), str(script.parent)]!r}\n"
         "import malicious_pickles; malicious_pickles.main()"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert result["files"] >= 150
    assert result["read"] == []
    assert result["events"] == []
    assert result["slowest"][1] < 0.5
    assert result["grown"] < 100e6


def test_load__the_audit_hook_would_notice() -> None:
    script = (
        "import sys, pickle; seen = []\n"
        "sys.addaudithook(lambda event, _: seen.append(event))\n"
        "pickle.loads(b'cos\\nsystem\\n(Vtrue\\ntR.'); print('os.system' in seen and 'pickle.find_class' in seen)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_load__every_truncation_is_refused() -> None:
    data = pickle.dumps({"embeddings": np.ones((2, 2), dtype=np.float32), "paths": ["a", "b"]}, protocol=4)
    for length in range(len(data)):
        with pytest.raises(UnsafeFileError):
            safe_pickle.load(data[:length])


def test_load__size_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(list(range(100))))
    with pytest.raises(UnsafeFileError, match="larger than"):
        safe_pickle.load(path, max_bytes=100)
    with pytest.raises(UnsafeFileError, match="larger than"):
        safe_pickle.load(path.read_bytes(), max_bytes=100)
    assert safe_pickle.load(path) == list(range(100))


def test_load__not_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.pkl"):
        with pytest.raises(DataError, match="not a file"):
            safe_pickle.load(path)


def fuzz(seconds: float, seed: int) -> tuple[int, float]:
    """Read mutated pickles; only UnsafeFileError may come out. Returns how many, and the slowest in seconds."""
    random_ = random.Random(seed)
    seeds = [pickle.dumps(value, protocol=p) for value in HONEST.values() for p in PROTOCOLS]
    seeds = [data for data in (*seeds, *CORPUS.values()) if len(data) < 3000]
    count, slowest, end = 0, 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = bytearray(random_.choice(seeds))
        for _ in range(random_.randint(1, 4)):
            at = random_.randint(0, len(data))
            other = random_.choice(seeds)
            start = random_.randint(0, len(other))
            kind = random_.randrange(4)
            if kind == 0 and at < len(data):
                data[at] = random_.randrange(256)
            elif kind == 1:
                data[at : at + random_.randint(0, 8)] = b""
            elif kind == 2:
                data[at:at] = random_.randbytes(random_.randint(1, 4))
            else:
                data[at:at] = other[start : start + random_.randint(1, 60)]
        started = time.process_time()
        with contextlib.suppress(UnsafeFileError):
            safe_pickle.load(bytes(data))
        slowest = max(slowest, time.process_time() - started)
        count += 1
    return count, slowest


def check_fuzz(seconds: float, seed: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count, slowest = fuzz(seconds, seed)
    assert count > 1000 * seconds
    assert slowest < 0.5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100e6


def test_load__mutated_files() -> None:
    check_fuzz(4.0, seed=0)


@pytest.mark.slow
def test_load__mutated_files_for_a_minute() -> None:
    check_fuzz(60.0, seed=time.time_ns())

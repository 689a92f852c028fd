from __future__ import annotations

import dataclasses
import io
import json
import pickle
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastive_cli.core.errors import DataError, UnsafeFileError, UsageError
from contrastive_cli.embeddings import file_formats
from contrastive_cli.embeddings.files import (
    Embeddings,
    NeighborsFile,
    read_embeddings,
    read_neighbors,
    write_embeddings,
    write_neighbors,
)

SUFFIXES = (".pkl", ".npz", ".safetensors", ".parquet")
MATRIX = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
PATHS = ("a b.png", "caf\udce9.png", "\u00fc/[red]x\n.png", "-x.png")


class Evil:
    """Runs a function when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def full() -> Embeddings:
    return Embeddings(
        vectors=MATRIX,
        labels=np.array([0, 1, -1, 1]),
        classes=("cat", "d\u00f6g"),
        paths=PATHS,
        indices=np.array([3, 2, 1, 0]),
        uncertainty=np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32),
        model={"run": "r", "checkpoint": "ab" * 32, "method": "simclr", "epoch": 3},
        preprocess={"size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        dataset={"name": "cifar10", "split": "test", "fingerprint": "f"},
    )


def neighbors() -> NeighborsFile:
    return NeighborsFile(
        indices=np.array([[1, 2], [0, 2]]),
        distances=np.array([[0.1, 0.2], [0.1, 0.3]], dtype=np.float32),
        metric="cosine",
        paths=("a.png", "b.png"),
        dataset={"name": "folder", "fingerprint": "f"},
        source="embeddings.pkl",
    )


def assert_equal(actual: Any, expected: Any) -> None:
    for column in dataclasses.fields(expected):
        left, right = getattr(actual, column.name), getattr(expected, column.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right


def saved(path: Path, value: Any) -> Path:
    path.write_bytes(pickle.dumps(value))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("embeddings", [full(), Embeddings(vectors=MATRIX)], ids=["full", "vectors-only"])
def test_write_embeddings__round_trip(tmp_path: Path, suffix: str, embeddings: Embeddings) -> None:
    path = tmp_path / f"x{suffix}"
    write_embeddings(path, embeddings)
    assert_equal(read_embeddings(path), embeddings)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_write_neighbors__round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_neighbors(path, neighbors())
    assert_equal(read_neighbors(path), neighbors())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_embeddings__goes_by_content_not_by_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_embeddings(path, full())
    assert_equal(read_embeddings(path.rename(tmp_path / "x.dat")), full())


def test_write_embeddings__pkl_is_readable_by_plain_pickle(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    write_embeddings(path, full())
    value = pickle.loads(path.read_bytes())
    assert set(value) == {
        "schema", "embeddings", "labels", "classes", "paths", "indices", "uncertainty", "model", "preprocess", "dataset"
    }  # fmt: skip
    np.testing.assert_array_equal(value["embeddings"], MATRIX)
    assert value["paths"] == list(PATHS)
    assert b"contrastive_cli" not in path.read_bytes()


def test_write_embeddings__npz_is_readable_by_numpy(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_embeddings(path, full())
    with np.load(path, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["embeddings"], MATRIX)
        assert archive["paths"].tolist() == list(PATHS)
        assert json.loads(str(archive["metadata"]))["dataset"]["name"] == "cifar10"


def test_write_embeddings__fortran_order_and_same_bytes_twice(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        embeddings = Embeddings(vectors=np.asfortranarray(MATRIX))
        first = write_embeddings(tmp_path / f"a{suffix}", embeddings)
        assert first == write_embeddings(tmp_path / f"b{suffix}", embeddings)
        assert_equal(read_embeddings(tmp_path / f"a{suffix}"), embeddings)


@pytest.mark.parametrize("suffix", ["", ".txt", ".feather"])
def test_write_embeddings__unknown_suffix(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match="suffix") as caught:
        write_embeddings(tmp_path / f"x{suffix}", full())
    assert ".npz" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": np.full((2, 3), np.nan, dtype=np.float32)}, "rows 0, 1"),
        ({"vectors": MATRIX[0]}, "expected float32"),
        ({"vectors": MATRIX[:0]}, "expected float32"),
        ({"vectors": MATRIX.astype(np.float64)}, "expected float32"),
        ({"labels": np.array([0])}, "1 labels for 4 rows"),
        ({"paths": ("a",)}, "1 paths for 4 rows"),
        ({"labels": np.array([0, 0, 0, 9])}, "a label is 9"),
        ({"labels": np.array([0, 0, 0, -2])}, "a label is -2"),
        ({"model": {"run": object()}}, "plain JSON"),
    ],
)
def test_write_embeddings__refuses_what_cannot_be_read(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    broken = dataclasses.replace(full(), **changes)
    with pytest.raises(DataError, match=message):
        write_embeddings(tmp_path / "x.pkl", broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["embeddings", "Embedding", "features", "feats", "vectors", "X", "unheard-of"])
def test_read_embeddings__names_of_the_matrix(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "x.pkl", {"targets": [0, 1, 0, 1], "filenames": list("abcd"), name: MATRIX.astype("f8")})
    found = read_embeddings(path)
    np.testing.assert_array_equal(found.vectors, MATRIX)
    if name != "unheard-of":
        assert found.vectors.dtype == np.float32
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.paths == tuple("abcd")


@pytest.mark.parametrize(
    "value",
    [
        MATRIX,
        MATRIX.tolist(),
        list(MATRIX),
        {"embeddings": MATRIX.tolist()},
        dict(zip("abcd", MATRIX, strict=True)),
        dict(zip("abcd", MATRIX.tolist(), strict=True)),
        list(zip("abcd", MATRIX, strict=True)),
        list(zip("abcd", MATRIX.tolist(), strict=True)),
        (MATRIX, np.array([0, 1, 0, 1])),
        [MATRIX, ["cat", "dog", "cat", "dog"]],
        dict(zip(np.array(list("abcd")), MATRIX, strict=True)),  # keys are numpy's own text
        dict(zip([b"a", b"b", b"c", b"d"], MATRIX, strict=True)),
        dict(zip("abcd", [list(row) for row in MATRIX], strict=True)),  # rows are lists of numpy's scalars
        list(zip(np.array(list("abcd")), MATRIX, strict=True)),
        {"embeddings": MATRIX, "paths": np.array(list("abcd"), dtype="S"), "labels": np.array([[0], [1], [0], [1]])},
        {"epoch": 3, "data": {"features": MATRIX, "labels": [0, 1, 0, 1]}, "meta": {"name": "x"}},
        {b"embeddings": MATRIX, b"labels": np.array([b"cat", b"dog", b"cat", b"dog"])},
    ],
)
def test_read_embeddings__layouts_of_others(tmp_path: Path, value: Any) -> None:
    found = read_embeddings(saved(tmp_path / "x.pkl", value))
    np.testing.assert_array_equal(found.vectors, MATRIX)
    assert found.vectors.dtype == np.float32
    assert found.paths in (None, tuple("abcd"))
    assert found.labels is None or found.labels.tolist() == [0, 1, 0, 1]


def test_read_embeddings__paths_come_from_keys_and_pairs(tmp_path: Path) -> None:
    for value in (dict(zip("abcd", MATRIX, strict=True)), list(zip("abcd", MATRIX.tolist(), strict=True))):
        assert read_embeddings(saved(tmp_path / "x.pkl", value)).paths == tuple("abcd")


def test_read_embeddings__numbers_as_keys_and_truth_values_as_vectors(tmp_path: Path) -> None:
    for keys in (range(4), np.arange(4)):
        assert read_embeddings(saved(tmp_path / "x.pkl", dict(zip(keys, MATRIX, strict=True)))).paths == tuple("0123")
    assert read_embeddings(saved(tmp_path / "x.pkl", MATRIX > 0)).vectors.tolist() == (MATRIX > 0).tolist()


def test_read_embeddings__two_dicts_that_could_be_meant(tmp_path: Path) -> None:
    two = {"train": {"embeddings": MATRIX}, "test": {"embeddings": MATRIX}}
    with pytest.raises(DataError, match="keys 'train', 'test'"):
        read_embeddings(saved(tmp_path / "x.pkl", two))


def test_read_embeddings__torch_file_of_another_protocol_is_quiet(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    torch.save(torch.from_numpy(MATRIX), tmp_path / "x.pt", pickle_protocol=4)
    torch.save(torch.from_numpy(MATRIX), tmp_path / "y.pt", pickle_protocol=4, _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x.pt").vectors, MATRIX)
    with pytest.raises(UnsafeFileError, match="saved with pickle_protocol=4, of which torch itself reads only 2"):
        read_embeddings(tmp_path / "y.pt")
    assert not recwarn.list


@pytest.mark.filterwarnings("ignore")  # torch warns of some of these kinds
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda ones: ones.to_sparse(), "sparse"),
        (lambda ones: ones.to_sparse_csr(), "sparse"),
        (lambda ones: ones.to("meta"), "empty"),
        (lambda ones: torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8), "quantized"),
    ],
)
def test_read_embeddings__tensors_of_other_kinds(
    make: Callable[[torch.Tensor], torch.Tensor], kind: str, tmp_path: Path
) -> None:
    torch.save({"embeddings": make(torch.ones(4, 3))}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=f"holds {kind} tensors"):
        read_embeddings(tmp_path / "x.pt")


def test_read_embeddings__views_that_numpy_does_not_know(tmp_path: Path) -> None:
    torch.save(torch._neg_view(torch.from_numpy(MATRIX)), tmp_path / "x.pt")
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x.pt").vectors, -MATRIX)


def test_read_embeddings__pooled_features_with_positions_of_one(tmp_path: Path) -> None:
    for value in (MATRIX[:, :, None, None], {"features": MATRIX[:, :, None, None]}, {"any": MATRIX[:, :, None]}):
        np.testing.assert_array_equal(read_embeddings(saved(tmp_path / "x.pkl", value)).vectors, MATRIX)


def test_read_embeddings__dicts_within_dicts(tmp_path: Path) -> None:
    deep = {"meta": {"n": {"of": 4}}, "model": {"train": {"epoch": {"embeddings": MATRIX, "labels": [3, 1, 2, 0]}}}}
    found = read_embeddings(saved(tmp_path / "x.pkl", deep))
    np.testing.assert_array_equal(found.vectors, MATRIX)
    assert found.labels is not None
    assert found.labels.tolist() == [3, 1, 2, 0]
    with pytest.raises(DataError, match="no embeddings recognized"):
        read_embeddings(saved(tmp_path / "y.pkl", {"a": {"b": deep}}))  # too deep


def test_read_embeddings__one_large_dict_many_times_ends_at_once(tmp_path: Path) -> None:
    large = dict.fromkeys(range(10_000), "text")
    value = {"within": dict.fromkeys(range(10_000), large)}
    torch.save(value, tmp_path / "x.pt")
    torch.save(value, tmp_path / "y.pt", _use_new_zipfile_serialization=False)
    started = time.monotonic()
    with pytest.raises(UnsafeFileError, match="far more memory than its size"):
        read_embeddings(tmp_path / "x.pt")
    with pytest.raises(DataError, match="no embeddings recognized"):
        read_embeddings(tmp_path / "y.pt")
    assert time.monotonic() - started < 5


def test_read_embeddings__text_labels_become_numbers(tmp_path: Path) -> None:
    found = read_embeddings(saved(tmp_path / "x.pkl", {"X": MATRIX, "y": np.array(["dog", "cat", "cat", "dog"])}))
    assert found.classes == ("cat", "dog")
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 0, 1]


def test_read_embeddings__npy_npz_safetensors_and_torch_of_others(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    np.save(tmp_path / "a.npy", np.asfortranarray(MATRIX))
    np.savez_compressed(tmp_path / "b.npz", features=MATRIX, labels=np.arange(4))
    save_file({"vectors": MATRIX}, tmp_path / "c.safetensors")
    torch.save({"embeddings": torch.from_numpy(MATRIX).requires_grad_(), "paths": list("abcd")}, tmp_path / "d.pt")
    torch.save(torch.from_numpy(MATRIX), tmp_path / "e.pt")
    torch.save(torch.from_numpy(MATRIX), tmp_path / "f.pt", _use_new_zipfile_serialization=False)
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_embeddings(path).vectors, MATRIX)
    torch.save(torch.ones(2, 2, dtype=torch.bfloat16), tmp_path / "g.pt")
    assert read_embeddings(tmp_path / "g.pt").vectors.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"embeddings": np.array([[1, np.nan], [1, 1], [np.inf, 0]])}, "2 of 3 rows .* not finite: rows 0, 2"),
        ({"embeddings": np.array([[1e300, 0.0]])}, "not finite"),
        ({"embeddings": np.zeros((2, 3, 4))}, r"shape \[2, 3, 4\]"),
        ({"embeddings": np.zeros((2, 2), dtype=complex)}, "complex128"),
        ({"embeddings": np.array([["a", "b"]])}, "<U1"),
        ({"embeddings": MATRIX[:0]}, "N, D > 0"),
        ({"a": MATRIX, "b": MATRIX}, "keys 'a', 'b'"),
        ([[1.0, 2.0], [1.0]], "not vectors of one length"),
        ({}, r"\(none\)"),
        ([], "0 items"),
        ("text", "a str"),
        (None, "a NoneType"),
    ],
)
def test_read_embeddings__says_what_is_wrong(tmp_path: Path, value: Any, message: str) -> None:
    path = saved(tmp_path / "x.pkl", value)
    with pytest.raises(DataError, match=message) as caught:
        read_embeddings(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": [0, 1]}, "2 labels for 4 rows"),
        ({"labels": [0.5, 1, 1, 1]}, "labels are not whole"),
        ({"labels": np.full(4, 2**63, dtype=np.uint64)}, "labels are not whole"),
        ({"labels": [None, 0, 1, 2]}, "labels are not numbers"),
        ({"labels": [[0], [1, 2], [3], [4]]}, "labels are not numbers"),
        ({"paths": [1, 2, 3, 4]}, "paths are not a list of text"),
    ],
)
def test_read_embeddings__a_file_of_ours_is_whole_or_damaged(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = saved(tmp_path / "x.pkl", {"schema": "clr-embeddings/1", "embeddings": MATRIX, **columns})
    with pytest.raises(DataError, match=message):
        read_embeddings(path)


def test_read_embeddings__missing_directory_empty_and_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty.pkl").touch()
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 not embeddings")
    for name, message in (
        ("missing.pkl", "does not exist"),
        (".", "a folder without index.json, not embeddings"),
        ("empty.pkl", "empty"),
        ("x.jpg", "not an"),
    ):
        with pytest.raises(DataError, match=message):
            read_embeddings(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".npy", ".pt"])
def test_read_embeddings__damaged_files_raise_our_errors(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, MATRIX)
    elif suffix == ".pt":
        torch.save(torch.from_numpy(MATRIX), path)
    else:
        write_embeddings(path, full())
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(data)
        for at in generator.integers(0, len(data), size=3):
            broken[at] = generator.integers(256)
        path.write_bytes(
            bytes(broken[: generator.integers(1, len(data))]) if generator.random() < 0.5 else bytes(broken)
        )
        try:
            found = read_embeddings(path)
        except (DataError, UnsafeFileError):
            continue
        assert np.isfinite(found.vectors).all()


def test_read_embeddings__malicious_pickle_keeps_its_error(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"cos\nsystem\n(Vtrue\ntR.")
    with pytest.raises(UnsafeFileError, match=r"os\.system") as caught:
        read_embeddings(path)
    assert str(path) in caught.value.message


def test_read_embeddings__malicious_torch_file(tmp_path: Path) -> None:
    torch.save({"embeddings": Evil()}, tmp_path / "x.pt")
    with pytest.raises(UnsafeFileError, match=r"asks for '.*print'"):
        read_embeddings(tmp_path / "x.pt")


def test_read_embeddings__torch_view_larger_than_the_file(tmp_path: Path) -> None:
    torch.save(torch.zeros(1).expand(100_000, 100_000), tmp_path / "x.pt")
    with pytest.raises(DataError, match="larger than the file"):
        read_embeddings(tmp_path / "x.pt")


def test_read_embeddings__zip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_formats, "FREE_BYTES", 1 << 20)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, embeddings=np.zeros((10, 1_000_000), dtype=np.float32))
    assert path.stat().st_size < 50_000
    with pytest.raises(UnsafeFileError, match="unpack to 40 MB"):
        read_embeddings(path)


def test_read_embeddings__npz_with_pickled_objects(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, embeddings=MATRIX, paths=np.array(list("abcd"), dtype=object))
    assert read_embeddings(path).paths == tuple("abcd")
    evil = np.empty(4, dtype=object)
    evil[0] = Evil()
    np.savez(path, embeddings=MATRIX, paths=evil)
    with pytest.raises(UnsafeFileError, match=r"asks for '.*print'"):
        read_embeddings(path)


def test_read_embeddings__a_large_npy_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_formats, "MAPPED_BYTES", 1)
    np.save(tmp_path / "rows.npy", MATRIX)
    np.save(tmp_path / "columns.npy", np.asfortranarray(MATRIX))
    for path in sorted(tmp_path.iterdir()):
        vectors = read_embeddings(path).vectors
        assert isinstance(vectors.base, np.memmap)
        np.testing.assert_array_equal(vectors, MATRIX)
    (tmp_path / "rows.npy").write_bytes((tmp_path / "rows.npy").read_bytes()[:-4])
    with pytest.raises(DataError, match=r"rows\.npy is damaged: the shape of an array does not match its bytes"):
        read_embeddings(tmp_path / "rows.npy")
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match=r"objects\.npy: it holds pickled objects"):
        read_embeddings(tmp_path / "objects.npy")


def test_read_embeddings__npy_header_that_promises_more(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 3)})
    (tmp_path / "x.npy").write_bytes(stream.getvalue() + bytes(12))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("embeddings.npy", stream.getvalue() + bytes(12))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match="does not match its bytes"):
            read_embeddings(tmp_path / name)


def test_read_embeddings__rows_that_are_all_the_same_list(tmp_path: Path) -> None:
    row = [0.5] * 100_000
    with pytest.raises(UnsafeFileError, match=r"x\.pkl.*memory"):
        read_embeddings(saved(tmp_path / "x.pkl", [row] * 100_000))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distances": np.zeros((2, 3))}, "not two tables"),
        ({"indices": np.array([[0, -1], [0, 1]])}, "an index is -1"),
        ({"indices": np.array([[0.5, 1], [0, 1]])}, "indices are not whole"),
        ({"distances": np.array([[0, np.nan], [0, 1]])}, "not finite: rows 0"),
        ({"distances": None}, "not a file of neighbors"),
        ({"paths": ["a"]}, "1 paths for 2 rows"),
    ],
)
def test_read_neighbors__says_what_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    honest: dict[str, Any] = {"indices": np.array([[1, 0], [0, 1]]), "distances": np.zeros((2, 2))}
    path = tmp_path / "x.pkl"
    read_neighbors(saved(path, honest))
    with pytest.raises(DataError, match=message):
        read_neighbors(saved(path, honest | changes))


def test_read_embeddings__small_files_need_no_torch(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        write_embeddings(tmp_path / f"x{suffix}", full())
    script = (
        "import sys; from pathlib import Path\n"
        "from contrastive_cli.embeddings.files import read_embeddings\n"
        f"for name in sorted(Path({str(tmp_path)!r}).iterdir()): read_embeddings(name)\n"
        "print([name for name in ('torch', 'umap', 'torchvision', 'sklearn') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("first_byte", [0x80, 0x28])
def test_read_embeddings__safetensors_whose_first_byte_looks_like_a_pickle(tmp_path: Path, first_byte: int) -> None:
    from safetensors.numpy import save

    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    contents = (save({"embeddings": vectors}, metadata={"note": "x" * length}) for length in range(600))
    path = tmp_path / "file.safetensors"
    path.write_bytes(next(content for content in contents if content[0] == first_byte))
    np.testing.assert_array_equal(read_embeddings(path).vectors, vectors)

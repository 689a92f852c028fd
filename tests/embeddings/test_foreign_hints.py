"""Every hint that is printed beside a file that is not read is followed here, and leads to one that is."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastive_cli.core.errors import ClrError, DataError, UnsafeFileError
from contrastive_cli.embeddings import file_formats, hdf5_format
from contrastive_cli.embeddings.files import read_embeddings
from contrastive_cli.pickles.names import CONVERTERS

MATRIX = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
PATHS = [f"photos/{name}.jpg" for name in "abcdef"]


def refusal(path: Path, kind: type[ClrError] = UnsafeFileError) -> str:
    with pytest.raises(kind) as caught:
        read_embeddings(path)
    return str(caught.value.hint)


def follow(hint: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    """Run the code of a hint, as a person would type it."""
    monkeypatch.chdir(folder)
    import pathlib

    import pandas

    exec(hint, {"pickle": pickle, "numpy": np, "pandas": pandas, "pathlib": pathlib, **names})


def test_hint__pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    vectors = pd.DataFrame({"path": PATHS, "embedding": list(MATRIX), "label": list("aabbcc")})
    wide = pd.DataFrame(MATRIX, index=pd.Index(PATHS, name="file"))
    for frame in (vectors, vectors.set_index("path"), wide):
        frame.to_pickle(tmp_path / "frame.pkl")
        hint = refusal(tmp_path / "frame.pkl")
        assert hint == CONVERTERS["pandas"]
        first, second = hint.removeprefix("convert it: ").split(", or ")
        follow(first, tmp_path, monkeypatch, frame=frame)
        found = read_embeddings(tmp_path / "x.pkl")
        np.testing.assert_allclose(found.vectors, MATRIX)
        assert found.paths == tuple(PATHS)
        if frame is not wide:  # parquet leaves an index out of the columns
            follow(second, tmp_path, monkeypatch, frame=frame.reset_index())
            np.testing.assert_allclose(read_embeddings(tmp_path / "x.parquet").vectors, MATRIX)


def test_hint__joblib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import joblib

    for compress in (0, 3, ("gzip", 3), ("bz2", 3)):
        joblib.dump({"features": MATRIX, "paths": PATHS}, tmp_path / "x.joblib", compress=compress)
        hint = refusal(tmp_path / "x.joblib")
        assert hint == CONVERTERS["joblib"]
        follow(hint.removeprefix("convert it: "), tmp_path, monkeypatch, joblib=joblib)
        assert read_embeddings(tmp_path / "x.pkl").paths == tuple(PATHS)


def test_hint__tensors_in_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    tensor = torch.from_numpy(MATRIX)
    (tmp_path / "tensor.pkl").write_bytes(pickle.dumps({"embeddings": tensor}))
    hint = refusal(tmp_path / "tensor.pkl")
    assert hint == CONVERTERS["torch"]
    torch.save({"embeddings": tensor}, tmp_path / "x.pt")
    follow(hint.split("convert it: ")[1], tmp_path, monkeypatch, tensor=tensor)
    for name in ("x.pt", "x.npz"):
        np.testing.assert_array_equal(read_embeddings(tmp_path / name).vectors, MATRIX)


def test_hint__paths_of_pathlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"embeddings": MATRIX, "paths": [Path(path) for path in PATHS]}))
    hint = refusal(tmp_path / "x.pkl")
    assert hint == CONVERTERS["pathlib"]
    paths = eval(hint.split(": ", 1)[1], {"paths": [Path(path) for path in PATHS]})
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"embeddings": MATRIX, "paths": paths}))
    assert read_embeddings(tmp_path / "x.pkl").paths == tuple(PATHS)


def test_hint__objects_in_a_torch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    import torch

    torch.save({"embeddings": torch.from_numpy(MATRIX), "args": argparse.Namespace(lr=1)}, tmp_path / "x.pt")
    hint = refusal(tmp_path / "x.pt")
    names = {"torch": torch, "tensor": torch.from_numpy(MATRIX), "paths": PATHS}
    follow(hint.split("only: ")[1], tmp_path, monkeypatch, **names)
    assert read_embeddings(tmp_path / "x.pt").paths == tuple(PATHS)


def test_hint__faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss = pytest.importorskip("faiss")
    flat = faiss.IndexFlatL2(5)
    flat.add(MATRIX)
    with_ids = faiss.IndexIDMap(faiss.IndexFlatIP(5))
    with_ids.add_with_ids(MATRIX, np.arange(6))
    for index in (flat, with_ids):
        faiss.write_index(index, str(tmp_path / "x.index"))
        follow(refusal(tmp_path / "x.index", DataError), tmp_path, monkeypatch, faiss=faiss)
        np.testing.assert_array_equal(read_embeddings(tmp_path / "x.npy").vectors, MATRIX)


def test_hint__feather_and_matlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    import scipy.io
    from pyarrow import feather, parquet

    feather.write_feather(pyarrow.table({"path": PATHS, "embedding": MATRIX.tolist()}), str(tmp_path / "x.feather"))
    hint = refusal(tmp_path / "x.feather", DataError)
    follow(hint.removesuffix(" of pyarrow"), tmp_path, monkeypatch, parquet=parquet, feather=feather)
    assert read_embeddings(tmp_path / "x.parquet").paths == tuple(PATHS)
    scipy.io.savemat(tmp_path / "x.mat", {"features": MATRIX})
    follow(refusal(tmp_path / "x.mat", DataError), tmp_path, monkeypatch, scipy=scipy)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x.npz").vectors, MATRIX)


def test_hint__shortened_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    long = np.random.default_rng(0).standard_normal((3, 2000)).astype(np.float32)
    frame = pd.DataFrame({"path": PATHS[:3], "embedding": list(long)})
    frame.to_csv(tmp_path / "x.csv")
    hint = refusal(tmp_path / "x.csv", DataError)
    follow(hint.removeprefix("write them whole: "), tmp_path, monkeypatch, frame=frame)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x.pkl").vectors, long)
    frame["embedding"] = list(long[:, :500])
    frame.to_csv(tmp_path / "x.csv")  # numpy's way of writing, over several lines
    np.testing.assert_allclose(read_embeddings(tmp_path / "x.csv").vectors, long[:, :500], rtol=1e-4)


def test_hint__missing_vectors_in_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    frame = pd.DataFrame({"path": PATHS, "embedding": [*MATRIX[:5], None]})
    frame.to_parquet(tmp_path / "x.parquet")
    hint = refusal(tmp_path / "x.parquet", DataError)
    follow(hint.split("leave them out: ")[1], tmp_path, monkeypatch, frame=frame)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x.parquet").vectors, MATRIX[:5])


def test_hint__several_groups_of_columns(tmp_path: Path) -> None:
    columns = {f"{group}_{n}": MATRIX[:, n].tolist() for group in ("p", "q") for n in range(3)}
    header, rows = ",".join(columns), zip(*columns.values(), strict=True)
    text = "\n".join([header, *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "x.csv").write_text(text)
    assert "embedding_0, embedding_1" in refusal(tmp_path / "x.csv", DataError)
    (tmp_path / "x.csv").write_text(text.replace("p_", "embedding_"))
    np.testing.assert_allclose(read_embeddings(tmp_path / "x.csv").vectors, MATRIX[:, :3], rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"index,words\n0,one\n1,two\n", "no embeddings recognized"),
        (b"just a few words", "text without numbers"),
        (b"path,embedding_0,embedding_1\na,1,2\nb,3\n", "line 3 has 2 cells instead of 3"),
        (b'{"embeddings": [[1, 2]', "it is no JSON"),
        (b'{"embedding": [1, 2]}\n{"embedding": [1\n', "line 2 is no JSON"),
        (b"\xfd7zXZ\x00\x00\x04", "compressed by xz"),
        (b"SQLite format 3\x00\x10", "a SQLite data base"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "is damaged"),
    ],
)
def test_read_embeddings__says_what_a_file_is(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError, match=said):
        read_embeddings(tmp_path / "x")


def test_read_embeddings__kinds_of_tensors_that_are_not_read(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"embeddings": torch.zeros(4, 3).to(torch.float8_e4m3fn)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="tensor 'embeddings' is of the kind F8_E4M3, which is not read"):
        read_embeddings(tmp_path / "x.safetensors")


def grown(before: int) -> int:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def test_read_embeddings__a_directory_that_lies_about_its_size(tmp_path: Path) -> None:
    """An npz of 1 GiB of zeros whose directory says 4096 bytes."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1024)})
        member.write(header.getvalue())
        for _ in range(1024):
            member.write(bytes(1 << 20))
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 4096)
    path.write_bytes(bytes(data))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="is damaged"):
        read_embeddings(path)
    assert grown(before) < 100e6


@pytest.mark.parametrize("inner", ["zeros", "gzip"])
def test_read_embeddings__gzip_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    monkeypatch.setattr(file_formats, "FREE_BYTES", 1 << 20)
    bomb = gzip.compress(bytes(300 << 20), 9)
    (tmp_path / "x.gz").write_bytes(bomb if inner == "zeros" else gzip.compress(bomb))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((UnsafeFileError, DataError)):
        read_embeddings(tmp_path / "x.gz")
    assert grown(before) < 200e6


def test_read_embeddings__hdf5_follows_no_link_and_fills_no_memory(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["matrix"] = MATRIX
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["embeddings"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "matrix")
        file["circle"] = h5py.SoftLink("/")
    with pytest.raises(DataError, match="no data set in it holds numbers"):
        read_embeddings(tmp_path / "x.h5")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("embeddings", (1 << 20, 1 << 12), "f4", compression="gzip")
    with pytest.raises(UnsafeFileError, match="would fill the memory"):
        read_embeddings(tmp_path / "bomb.h5")


def test_read_embeddings__hdf5_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_foreign_files import FILES

    monkeypatch.setattr(hdf5_format, "SECONDS", 0)
    (tmp_path / "x.h5").write_bytes(FILES["HDF5: data sets"][0]())
    with pytest.raises(DataError, match="does not come to an end"):
        read_embeddings(tmp_path / "x.h5")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "torch", "hdf5", "gz"])
def test_read_embeddings__damaged_files_of_others_raise_our_errors(tmp_path: Path, kind: str) -> None:
    from test_foreign_files import FILES

    row = {"csv": "CSV: lightly", "jsonl": "JSON lines", "torch": "torch: numpy arrays and scalars inside",
           "hdf5": "HDF5: data sets", "gz": "gzip and bzip2"}[kind]  # fmt: skip
    whole, draws = FILES[row][0](), np.random.default_rng(0)
    for _ in range(5 if kind == "hdf5" else 120):  # each starts a process
        broken = bytearray(whole)
        for at in draws.integers(0, len(whole), size=3):
            broken[at] = draws.integers(256)
        (tmp_path / "x").write_bytes(bytes(broken[: draws.integers(1, len(whole))] if draws.random() < 0.4 else broken))
        with contextlib.suppress(DataError, UnsafeFileError):
            assert np.isfinite(read_embeddings(tmp_path / "x").vectors).all()


@pytest.mark.parametrize("start", [b"class,", b"image,", b"id,", b"code,", b"c,", b"("])
def test_read_embeddings__a_table_is_no_pickle(tmp_path: Path, start: bytes) -> None:
    rows = b"".join(b"%d,%f,%f\n" % (n, *MATRIX[n, :2]) for n in range(6))
    (tmp_path / "x.csv").write_bytes(start.rstrip(b",") + b",embedding_0,embedding_1\n" + rows)
    np.testing.assert_allclose(read_embeddings(tmp_path / "x.csv").vectors, MATRIX[:, :2], atol=1e-5)


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_read_embeddings__hostile_pickles_of_protocol_0_stay_refused(tmp_path: Path, wrap: Any) -> None:
    for data in (b"cos\nsystem\n(Vtrue\ntR.", b"(Vtrue\nios\nsystem\n.", b"cos\nsystem\n(Vtrue\ntR.\n\n"):
        (tmp_path / "x").write_bytes(wrap(data))
        with pytest.raises(UnsafeFileError):
            read_embeddings(tmp_path / "x")

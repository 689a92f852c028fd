"""Files of other tools: every row of the tables in docs/embeddings-format.md is a file that is made and read here."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastive_cli.embeddings.files import Embeddings, read_embeddings

DOCS = Path(__file__).parents[2] / "docs" / "embeddings-format.md"
MATRIX = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
PATHS = [f"photos/{name}.jpg" for name in "abcdef"]
PEOPLE = ["anna", "anna", "ben", "ben", "cleo", "cleo"]
NUMBERS = [0, 0, 1, 1, 2, 2]
WIDE = {f"embedding_{number}": MATRIX[:, number].tolist() for number in range(5)}


def pickled(value: Any) -> bytes:
    return pickle.dumps(value)


def numpy_file(value: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=True)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def torch_file(value: Any, **options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def tensor(value: Any = MATRIX) -> Any:
    import torch

    return torch.from_numpy(np.array(value))


def table(header: list[str] | None, rows: list[list[Any]], **options: Any) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, **options).writerows([*([header] if header else []), *rows])
    return stream.getvalue().encode()


def wide_rows(before: list[Any] | None = None, after: list[Any] | None = None) -> list[list[Any]]:
    return [
        [*([] if before is None else [before[row]]), *MATRIX[row].tolist(), *([] if after is None else [after[row]])]
        for row in range(6)
    ]


def objects(rows: list[list[Any]]) -> Any:
    array = np.empty((len(rows), len(rows[0])), dtype=object)
    for row, column in np.ndindex(array.shape):
        array[row, column] = rows[row][column]
    return array


def bfloat16() -> bytes:
    import torch
    from safetensors.torch import save

    return save({"features": torch.from_numpy(MATRIX).bfloat16(), "halves": torch.zeros(6, dtype=torch.float16)})


def parquet(**columns: Any) -> bytes:
    import pyarrow
    from pyarrow import parquet as format_

    stream = io.BytesIO()
    format_.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def hdf5(**values: Any) -> bytes:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, value in values.items():
            file[name] = value
    return stream.getvalue()


def python_2() -> bytes:
    """`{"data": float32 [6, 5], "filenames": [...]}` by cPickle at protocol 2, whose text is bytes."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x06K\x05\x86"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([MATRIX.nbytes]) + MATRIX.tobytes() + b"tb"
    )
    names = b"".join(b"U" + bytes([len(path)]) + path.encode() for path in PATHS)
    return b"\x80\x02}(U\x04data" + array + b"U\tfilenames](" + names + b"eu."


def zipped(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def several() -> dict[str, list[Any]]:
    vectors: dict[str, list[Any]] = defaultdict(list)
    for person, row in zip(PEOPLE, MATRIX, strict=True):
        vectors[person].append(row)
    return vectors


def records(**more: Any) -> list[dict[str, Any]]:
    return [
        {"identity": path, "hash": "0" * 40, "embedding": row.tolist(), **more}
        for path, row in zip(PATHS, MATRIX, strict=True)
    ]


HEADER = ["filenames", *WIDE, "labels"]
CSV = table(["image", *WIDE, "labels"], wide_rows(PATHS, NUMBERS))
NO, PATH, LABEL, BOTH = "", "paths", "labels", "paths labels"
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "matrix in `.npy`": (lambda: numpy_file(MATRIX), NO),
    "matrix [N, 1, D] in `.npy`": (lambda: numpy_file(MATRIX[:, None]), NO),
    "dict in `.npy`": (lambda: numpy_file(dict(zip(PATHS, MATRIX, strict=True))), PATH),
    "`.npz` with any of the usual names": (lambda: npz(image_embeddings=MATRIX, file_name=PATHS, label=NUMBERS), BOTH),
    "`.npz` with text as objects": (lambda: npz(vectors=MATRIX, path=np.array(PATHS, object), y=NUMBERS), BOTH),
    "`.npz` of a frame with a column of vectors": (
        lambda: npz(embeddings=objects([[p, r, n] for p, r, n in zip(PATHS, MATRIX, PEOPLE, strict=True)])),
        BOTH,
    ),
    "pickle: `{path: vector}`": (lambda: pickled(dict(zip(PATHS, MATRIX, strict=True))), PATH),
    "pickle: `{path: [1, D]}`": (lambda: pickled({p: r[None] for p, r in zip(PATHS, MATRIX, strict=True)}), PATH),
    "pickle: OrderedDict": (lambda: pickled(OrderedDict(zip(PATHS, MATRIX, strict=True))), PATH),
    "pickle: defaultdict, person to vectors": (lambda: pickled(several()), LABEL),
    "pickle: person to an array [n, D]": (lambda: pickled({k: np.stack(v) for k, v in several().items()}), LABEL),
    "pickle: encodings and names": (
        lambda: pickled({"encodings": list(MATRIX.astype(np.float64)), "names": PEOPLE}),
        LABEL,
    ),
    "pickle: list of dicts": (lambda: pickled(records()), PATH),
    "pickle: list of a list of dicts each": (
        lambda: pickled([[{"embedding": row.tolist(), "facial_area": {"x": 1}, "hash": "a"}] for row in MATRIX]),
        NO,
    ),
    "pickle: dict of dicts": (lambda: pickled(dict(enumerate(records(target="x")))), PATH),
    "pickle: dict of columns by row": (
        lambda: pickled({"path": dict(enumerate(PATHS)), "embedding": dict(enumerate(MATRIX))}),
        PATH,
    ),
    "pickle: columns and data": (
        lambda: pickled(
            {
                "index": list(range(6)),
                "columns": ["path", "embedding", "label"],
                "data": [list(row) for row in zip(PATHS, MATRIX, NUMBERS, strict=True)],
            }
        ),
        BOTH,
    ),
    "pickle: dict of lists": (lambda: pickled({"path": PATHS, "embedding": list(MATRIX), "label": PEOPLE}), BOTH),
    "pickle: a column for every dimension": (lambda: pickled({"image_path": PATHS, **WIDE, "label": NUMBERS}), BOTH),
    "pickle: (names, matrix)": (lambda: pickled((PATHS, MATRIX)), PATH),
    "pickle: (matrix, names)": (lambda: pickled((MATRIX, PATHS)), PATH),
    "pickle: (matrix, labels)": (lambda: pickled((MATRIX, np.array(NUMBERS))), LABEL),
    "pickle: (matrix, labels, names)": (lambda: pickled([MATRIX, PEOPLE, PATHS]), BOTH),
    "pickle: list of (path, vector)": (lambda: pickled(list(zip(PATHS, MATRIX.tolist(), strict=True))), PATH),
    "pickle: list of (vector, label)": (lambda: pickled(list(zip(MATRIX, NUMBERS, strict=True))), LABEL),
    "pickle: list of batches": (lambda: pickled([MATRIX[:2], MATRIX[2:4], MATRIX[4:]]), NO),
    "pickle of Python 2": (python_2, PATH),
    "torch: tensor": (lambda: torch_file(tensor()), NO),
    "torch: dict of tensors and lists": (
        lambda: torch_file({"feats": tensor().requires_grad_(), "paths": PATHS, "targets": tensor(NUMBERS)}),
        BOTH,
    ),
    "torch: numpy arrays and scalars inside": (
        lambda: torch_file(
            {"features": MATRIX, "paths": PATHS, "epoch": np.float64(3), "label": list(map(np.int64, NUMBERS))}
        ),
        BOTH,
    ),
    "torch: half and bfloat16": (lambda: torch_file({"x": tensor().bfloat16(), "halves": tensor()[0].half()}), NO),
    "torch: list of [1, D] tensors": (lambda: torch_file([tensor(row[None]) for row in MATRIX]), NO),
    "torch: before 1.6": (lambda: torch_file(tensor(), _use_new_zipfile_serialization=False), NO),
    "safetensors: bfloat16 and float16": (bfloat16, NO),
    "CSV: lightly": (lambda: table(HEADER, wide_rows(PATHS, NUMBERS)), BOTH),
    "CSV: begins with `class`": (lambda: table(["class", *WIDE, "path"], wide_rows(PEOPLE, PATHS)), BOTH),
    "CSV: no header": (lambda: table(None, wide_rows()), NO),
    "CSV: path first, no header": (lambda: table(None, wide_rows(PATHS)), PATH),
    "CSV: vectors in brackets": (
        lambda: table(["path", "embedding"], [[p, row.tolist()] for p, row in zip(PATHS, MATRIX, strict=True)]),
        PATH,
    ),
    "CSV: index of pandas": (
        lambda: table(["", "path", *WIDE], [[number, *row] for number, row in enumerate(wide_rows(PATHS))]),
        PATH,
    ),
    "CSV: semicolons and decimal commas": (
        lambda: table(["path", *WIDE], wide_rows(PATHS), delimiter=";")
        .replace(b".", b",")
        .replace(b",jpg", b".jpg"),
        PATH,
    ),
    "TSV": (lambda: table(None, wide_rows(), delimiter="\t"), NO),
    "white space": (lambda: ("\n".join(" ".join(map(str, row)) for row in wide_rows())).encode(), NO),
    "JSON: list of objects": (lambda: json.dumps(records(label="x")).encode(), PATH),
    "JSON: object of lists": (
        lambda: json.dumps({"features": MATRIX.tolist(), "filename": PATHS, "label": PEOPLE}).encode(),
        BOTH,
    ),
    "JSON lines": (lambda: "\n".join(json.dumps(record) for record in records()).encode(), PATH),
    "gzip and bzip2": (lambda: gzip.compress(CSV), BOTH),
    "zip with one file": (lambda: zipped("x.csv", CSV), BOTH),
    "parquet: list column": (lambda: parquet(path=PATHS, embedding=MATRIX.tolist(), label=PEOPLE), BOTH),
    "parquet: a column for every dimension": (lambda: parquet(path=PATHS, **WIDE, label=NUMBERS), BOTH),
    "HDF5: data sets": (lambda: hdf5(features=MATRIX, filenames=PATHS, labels=NUMBERS), BOTH),
    "HDF5: a data set for every path": (lambda: hdf5(**dict(zip(PATHS, MATRIX, strict=True))), PATH),
}  # fmt: skip
BESIDE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "labels None, NaN, empty": (
        {"labels": ["anna", "anna", None, "", np.nan, "ben"]},
        {"labels": [0, 0, -1, -1, -1, 1]},
        "",
    ),
    "labels -1 and -100": ({"label": [0, -1, -100, 1, 2, 2]}, {"labels": [0, -1, -1, 1, 2, 2]}, ""),
    "labels one-hot": ({"labels": np.eye(3, dtype=int)[NUMBERS]}, {"labels": NUMBERS}, ""),
    "labels several per row": ({"labels": np.ones((6, 3), int)}, {"labels": None}, "labels [6, 3] left out: some rows"),
    "labels that are not whole, as ages": (
        {"targets": [0.5, 1, 2, 3, 4, 5]},
        {"labels": None},
        "targets left out: labels are not whole",
    ),
    "labels of another length": ({"y": [0, 1]}, {"labels": None}, "y left out: 2 for 6 rows"),
    "labels as text": (
        {"label": PEOPLE, "classes": ["cleo", "anna", "ben"]},
        {"labels": [1, 1, 2, 2, 0, 0], "classes": ("cleo", "anna", "ben")},
        "",
    ),
    "`names` of another length than N": (
        {"labels": NUMBERS, "names": ["a", "b", "c"]},
        {"labels": NUMBERS, "classes": ("a", "b", "c"), "paths": None},
        "",
    ),
    "`names` that come again": ({"names": PEOPLE}, {"labels": NUMBERS, "paths": tuple(PEOPLE)}, ""),
    "`path` that is one text": ({"path": "photos/"}, {"paths": None}, "path left out: it is a text"),
    "a path that is missing": ({"path": [*PATHS[:2], None, *PATHS[3:]]}, {"paths": (*PATHS[:2], "2", *PATHS[3:])}, ""),
    "`index` or `ids` of text": ({"index": PATHS}, {"paths": tuple(PATHS), "indices": None}, ""),
    "class_to_idx": (
        {"labels": NUMBERS, "class_to_idx": {"b": 1, "a": 0, "c": 2}},
        {"labels": NUMBERS, "classes": ("a", "b", "c")},
        "",
    ),
}  # fmt: skip


def read(tmp_path: Path, data: bytes, name: str = "file") -> Embeddings:
    (tmp_path / name).write_bytes(data)
    return read_embeddings(tmp_path / name)


def first_cells(heading: str) -> list[str]:
    lines = DOCS.read_text().split(f"| {heading} |", 1)[1].splitlines()[2:]
    rows = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows]


@pytest.mark.parametrize("row", FILES)
def test_read_embeddings__files_of_other_tools(tmp_path: Path, row: str) -> None:
    make, beside = FILES[row]
    found = read(tmp_path, make())
    np.testing.assert_allclose(found.vectors, MATRIX, rtol=1e-2 if "bfloat16" in row else 1e-6)
    assert found.vectors.dtype == np.float32
    if "paths" in beside:
        assert found.paths == tuple(PATHS)
    if "labels" in beside:
        assert found.labels is not None
        assert found.labels.tolist() == NUMBERS
    else:
        assert found.labels is None or len(set(found.labels.tolist())) == 1


@pytest.mark.parametrize("row", BESIDE)
def test_read_embeddings__columns_beside_the_vectors(tmp_path: Path, row: str) -> None:
    columns, expected, note = BESIDE[row]
    for data in (pickled({"embeddings": MATRIX, **columns}), pickled({"any": MATRIX, **columns})):
        found = read(tmp_path, data)
        np.testing.assert_array_equal(found.vectors, MATRIX)
        for name, value in expected.items():
            actual = getattr(found, name)
            assert (actual.tolist() if isinstance(actual, np.ndarray) else actual) == value
        assert (note in " ".join(found.notes)) if note else not found.notes


def test_docs__every_row_is_a_test() -> None:
    assert first_cells("what | who writes it") == list(FILES)
    assert first_cells("beside the vectors | how it is read") == list(BESIDE)


def test_read_embeddings__bzip2_zlib_and_gzip_of_anything(tmp_path: Path) -> None:
    import zlib

    for data in (bz2.compress(CSV), zlib.compress(pickled(MATRIX)), gzip.compress(numpy_file(MATRIX))):
        np.testing.assert_allclose(read(tmp_path, data).vectors, MATRIX, rtol=1e-6)


def test_read_embeddings__python_2_names_are_bytes(tmp_path: Path) -> None:
    names = b"".join(b"U" + struct.pack("<B", len(path)) + path.encode() for path in PATHS)
    assert names in python_2()
    assert read(tmp_path, python_2()).paths == tuple(PATHS)

"""Tar and parquet shards: the same pictures and labels as the folder they were made of, and hostile ones."""

from __future__ import annotations

import io
import json
import logging
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from clr_process import Clr
from PIL import Image

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.cache import ImageSet, open_cached
from contrastive_cli.data.datasets import find_source, open_dataset
from contrastive_cli.data.shards import find_shards, number_classes

CLASSES = ("cat", "dog")
TINY_BMP_HEADER = b"BM"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLR_CACHE", str(tmp_path / "cache"))


def picture(number: int, *, side: int = 24) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (side, side + number % 3, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def samples(first: int, count: int, *, label: str = "cls") -> dict[str, bytes]:
    """Numbered pictures, even ones cats and odd ones dogs."""
    members = {}
    for number in range(first, first + count):
        members[f"{number:04d}.png"] = picture(number)
        if label == "cls":
            members[f"{number:04d}.cls"] = str(number % 2).encode()
        elif label == "json":
            members[f"{number:04d}.json"] = json.dumps({"label": CLASSES[number % 2], "w": 24}).encode()
    return members


def opened(name: str, where: Path, *, split: str = "train", size: int = 16) -> ImageSet:
    return open_dataset(name, split=split, data_dir=where, size=size)


def as_folder(root: Path, numbers: range) -> ImageSet:
    """The same pictures as files, read by the oracle: the data set `folder`."""
    for number in numbers:
        file = root / str(number % 2) / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number))
    return open_dataset("folder", split="all", data_dir=root, size=16)


def sorted_pixels(images: ImageSet) -> list[tuple[int, bytes]]:
    return sorted((int(label), image.tobytes()) for label, image in zip(images.labels, images.images, strict=True))


def test_tar__equals_the_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "t/data-train-0000.tar", samples(0, 10))
    write_tar(tmp_path / "t/data-train-0001.tar", samples(10, 6))
    write_tar(tmp_path / "t/data-val-0000.tar", samples(16, 4))
    folder = as_folder(tmp_path / "f", range(16))
    images = opened("tar", tmp_path / "t")
    assert (images.classes, images.num_samples) == (("0", "1"), 16)
    assert images.paths[10] == "data-train-0001.tar/0010.png"
    assert images.labels.tolist() == [number % 2 for number in range(16)]
    assert sorted_pixels(images) == sorted_pixels(folder)
    for split in ("val", "test"):  # test is val where there is no test
        assert opened("tar", tmp_path / "t", split=split).paths[0] == "data-val-0000.tar/0016.png"
    assert opened("tar", tmp_path / "t", split="all").num_samples == 20


def test_tar__splits_are_drawn_once_where_no_name_says_them(tmp_path: Path) -> None:
    write_tar(tmp_path / "t/a.tar", samples(0, 25, label="json"))
    write_tar(tmp_path / "t/b.tar", samples(25, 25, label="json"))
    train, test = (opened("tar", tmp_path / "t", split=split) for split in ("train", "test"))
    assert (train.num_samples, test.num_samples) == (40, 10)
    assert set(train.paths).isdisjoint(test.paths)
    assert train.classes == test.classes == CLASSES
    assert np.bincount(test.labels).tolist() == [5, 5]


def test_tar__one_class_less_in_a_split_keeps_its_number(tmp_path: Path) -> None:
    write_tar(tmp_path / "t/train-0.tar", samples(0, 6))
    write_tar(tmp_path / "t/test-0.tar", {"1.png": picture(1), "1.cls": b"1\n"})
    test = opened("tar", tmp_path / "t", split="test")
    assert (test.labels.tolist(), test.classes) == ([1], ("0", "1"))


def test_tar__what_is_no_label_is_none(tmp_path: Path) -> None:
    members = {
        **{"a.png": picture(0), "a.cls": b"-1", "b.png": picture(1), "b.json": b"{", "c.png": picture(2)},
        **{"d.png": picture(3), "d.json": b'{"label": true}', "e.png": picture(4), "e.json": b"[" * 100_000},
        **{"f.seg.png": picture(6), "f.png": picture(5), "f.cls": b"bird", "g.txt": b"no picture", "._h.png": b"mac"},
    }
    write_tar(tmp_path / "t/all.tar", members)
    images = opened("tar", tmp_path / "t", split="all")
    assert images.labels.tolist() == [-1, -1, -1, -1, -1, 0]
    assert images.classes == ("bird",)
    assert images.paths[5] == "all.tar/f.png"  # not the mask beside it


def test_tar__links_and_names_that_lead_out_are_only_text(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(9))
    (tmp_path / "t").mkdir()
    with tarfile.open(tmp_path / "t/x.tar", "w") as archive:
        link = tarfile.TarInfo("0.png")
        link.type, link.linkname = tarfile.SYMTYPE, "../secret.png"
        archive.addfile(link)
        outside = tarfile.TarInfo("../../1.png")
        outside.size = len(picture(1))
        archive.addfile(outside, io.BytesIO(picture(1)))
    before = sorted(tmp_path.rglob("*.png"))
    images = opened("tar", tmp_path / "t", split="all")
    assert (images.num_samples, images.paths) == (1, ("x.tar/../../1.png",))
    assert sorted(tmp_path.rglob("*.png")) == before


def test_tar__a_damaged_one_is_one_line(tmp_path: Path, clr: Clr) -> None:
    write_tar(tmp_path / "t/a.tar", samples(0, 8))
    whole = (tmp_path / "t/a.tar").read_bytes()
    with tarfile.open(tmp_path / "t/a.tar") as archive:
        header = archive.getmembers()[9].offset
    no_header = whole[:header] + b"x" * 512 + whole[header + 512 :]
    for content in (whole[:3000], whole[:2600], b"\x1f\x8b" + whole, no_header, b""):
        (tmp_path / "t/a.tar").write_bytes(content)
        done = clr("pretrain", "--dataset", "tar", "--data-dir", "t", "--epochs", "1", cwd=tmp_path)
        assert (done.code, "no whole tar" in done.err, "Traceback" in done.err) == (3, True, False), done.err
        assert not (tmp_path / "runs").exists()


def test_tar__a_picture_that_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "t/a.tar", {**samples(0, 8), "9.png": picture(9)[:200], "8.png": b"", "7x.png": b"GIF8"})
    images = opened("tar", tmp_path / "t", split="all")
    assert images.num_samples == 8
    assert [Path(bad.path).name for bad in images.bad_files] == ["9.png", "8.png", "7x.png"]


def test_find_shards__patterns(tmp_path: Path) -> None:
    for name in ("train-000.tar", "train-001.tar", "train-002.tar", "test-000.tar"):
        write_tar(tmp_path / "d" / name, samples(0, 1))
    places = {
        "d/train-{000..001}.tar": 2,
        "d/{train,test}-000.tar": 2,
        "d/train-*.tar": 3,
        "d/train-00[12].tar": 2,
        "d/test-000.tar": 1,
        "d": 4,
    }
    for pattern, count in places.items():
        assert len(find_shards(tmp_path / pattern, suffixes=(".tar",))[1]) == count
    for pattern in ("d/train-{000..003}.tar", "d/val-*.tar", "none", "d/{0..99999999}.tar"):
        with pytest.raises(DataError):
            find_shards(tmp_path / pattern, suffixes=(".tar",))
    with pytest.raises(DataError, match=r"no file of \.parquet"):
        find_shards(tmp_path / "d", suffixes=(".parquet",))


def test_number_classes__numbers_by_value_and_names_by_letter() -> None:
    labels, classes = number_classes([10, 9, None, 10, 0])
    assert (labels.tolist(), classes) == ([2, 1, -1, 2, 0], ("0", "9", "10"))
    labels, classes = number_classes(["b", 3, "a"])
    assert (labels.tolist(), classes) == ([2, 0, 1], ("3", "a", "b"))


def write_parquet(path: Path, numbers: range, *, layout: str) -> None:
    pictures = [picture(number) for number in numbers]
    columns: dict[str, object] = {"label": [number % 2 for number in numbers]}
    metadata = None
    if layout == "huggingface":
        columns["image"] = [{"bytes": one, "path": None} for one in pictures]
        features = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
        metadata = {"huggingface": json.dumps(features)}
    elif layout == "bytes":
        columns["jpg"] = pictures
    else:
        columns["path"] = [f"{number % 2}/{number:04d}.png" for number in numbers]
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=7)


@pytest.mark.parametrize("layout", ["huggingface", "bytes", "paths"])
def test_parquet__equals_the_folder(layout: str, tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "p", range(20))
    write_parquet(tmp_path / "p/train-00000-of-00002.parquet", range(12), layout=layout)
    write_parquet(tmp_path / "p/train-00001-of-00002.parquet", range(12, 20), layout=layout)
    images = opened("parquet", tmp_path / "p")
    assert images.classes == (CLASSES if layout == "huggingface" else ("0", "1"))
    assert images.labels.tolist() == [number % 2 for number in range(20)]
    assert sorted_pixels(images) == sorted_pixels(folder)


@pytest.mark.parametrize(
    ("labels", "classes", "noted"),
    [
        ([True, False, True, False], ("false", "true"), False),
        ([1.0, 0.0, None, 3.0], ("0", "1", "3"), False),
        ([0.5, 1.5, 2.5, 1.0], ("1",), False),
        ([0.5, 1.5, 2.5, None], (), True),
        ([[1, 0], [0, 1], [1, 0], [0, 1]], (), True),
    ],
)
def test_parquet__labels_of_other_kinds_are_read_or_said(
    labels: list[Any], classes: tuple[str, ...], noted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "p").mkdir()
    table = pyarrow.table({"jpg": [picture(number) for number in range(4)], "label": labels})
    pyarrow.parquet.write_table(table, tmp_path / "p/a.parquet")
    with caplog.at_level(logging.INFO, "contrastive_cli"):
        images = opened("parquet", tmp_path / "p", split="all")
    assert tuple(name for name in images.classes if (images.labels == images.classes.index(name)).any()) == classes
    assert any("the column label holds no classes" in line for line in caplog.messages) == noted


def test_parquet__paths_stay_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "p").mkdir()
    (tmp_path / "p/in.png").write_bytes(picture(2))
    (tmp_path / "p/link.png").symlink_to(tmp_path / "secret.png")
    names = ["in.png", "../secret.png", str(tmp_path / "secret.png"), "link.png", None, "no.png"]
    pyarrow.parquet.write_table(pyarrow.table({"path": names}), tmp_path / "p/a.parquet")
    source = find_source("parquet", split="all", data_dir=tmp_path / "p", size=16)
    images = open_cached(source, max_bad=1.0)
    assert (images.num_samples, len(images.bad_files)) == (1, 5)
    assert not images.has_labels


def test_parquet__foreign_and_damaged_ones_are_one_line(tmp_path: Path, clr: Clr) -> None:
    (tmp_path / "p").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": [0]}), tmp_path / "p/a.parquet")
    done = clr("pretrain", "--dataset", "parquet", "--data-dir", "p", "--epochs", "1", cwd=tmp_path)
    assert (done.code, "has no column of pictures; it has text, label" in done.err) == (3, True)
    (tmp_path / "p/a.parquet").write_bytes(b"PAR1" + b"\0" * 50)
    done = clr("pretrain", "--dataset", "parquet", "--data-dir", "p", "--epochs", "1", cwd=tmp_path)
    assert (done.code, "no whole parquet file" in done.err, "Traceback" in done.err) == (3, True, False)


def test_pretrain__from_tar_and_back_to_embeddings(tmp_path: Path, clr: Clr) -> None:
    write_tar(tmp_path / "t/train-0.tar", samples(0, 24))
    write_tar(tmp_path / "t/test-0.tar", samples(24, 8))
    options = ("--set", "dataset.size=16", "--set", "encoder.name=resnet9", "--batch-size", "8", "--epochs", "1")
    done = clr("pretrain", "--dataset", "tar", "--data-dir", "t", *options, "--out", "runs/t", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "2 shards; by name train 1, test 1" in done.err
    embedded = clr("embed", "--out", "e.npz", "--json", cwd=tmp_path)
    assert embedded.code == 0, embedded.err
    with np.load(tmp_path / "e.npz") as file:
        assert file["embeddings"].shape[0] == 8
    assert clr("linear-eval", "--json", cwd=tmp_path).code == 0

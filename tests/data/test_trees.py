"""The one reading of a folder of pictures: what is used, what is not, and what is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.data.kinds import picture_format, suffix_of
from contrastive_cli.data.layout import split_of
from contrastive_cli.data.sources import TreeOptions
from contrastive_cli.data.trees import describe_splits, folder_parts, read_tree, split_tree

GENERATOR = np.random.default_rng(0)


def paint(root: Path, *names: str, kind: str | None = None) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GENERATOR.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name, kind)


def lines(root: Path) -> list[str]:
    tree = read_tree(root)
    return [line.replace(str(root), "ROOT") for line in describe_splits(tree, split_tree(tree, seed=0)).lines]


def open_all(root: Path, *, split: str = "all", max_bad: float = 0.01, options: TreeOptions | None = None) -> ImageSet:
    tree = options or TreeOptions()
    return open_dataset("folder", split=split, data_dir=root, size=8, max_bad=max_bad, tree=tree)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *[(name, "train") for name in ("train", "Training", "TRAIN", "training_set", "trainset", "train-images")],
        *[(name, "train") for name in ("TrainingData", "01_train", "seg_train", "trainval", "train2017")],
        *[(name, "val") for name in ("val", "valid", "Validation", "dev", "eval", "val2017", "dev_set", "ValidSet")],
        *[(name, "test") for name in ("test", "Testing", "test_set", "test1", "TestImages", "holdout", "testdata")],
        *[(name, "unlabeled") for name in ("unlabeled", "Unlabelled", "train_unlabeled")],
    ],
)  # fmt: skip
def test_split_of__names_as_people_write_them(name: str, split: str) -> None:
    assert split_of(name) == (split, ())


@pytest.mark.parametrize(
    "name", ["trainers", "valley", "testudo", "contest", "devil", "retrain", "cat", "7", "", "valentine"]
)
def test_split_of__words_that_begin_alike_are_none(name: str) -> None:
    assert split_of(name) is None


def test_split_of__further_words_are_kept() -> None:
    assert split_of("asl_alphabet_train") == ("train", ("asl", "alphabet"))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.JPG", ".jpg"),
        ("a.mp4", ".mp4"),
        ("a", ""),
        ("a.0001", ""),
        ("a.jpg_large", ""),
        ("a.jpg?w=6", ""),
        (".x", ""),
    ],
)
def test_suffix_of__says_what_a_file_is_or_nothing(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF"])
def test_picture_format__by_the_first_bytes(tmp_path: Path, kind: str) -> None:
    paint(tmp_path, "x", kind=kind)
    assert picture_format((tmp_path / "x").read_bytes()[:32]) == kind


@pytest.mark.parametrize(
    "start", [b"", b"BMW and other cars are here, so it is text", b"P5 is a text", b"RIFF....WAVE", b"MZ"]
)
def test_picture_format__of_other_files(start: bytes) -> None:
    assert picture_format(start) is None


def test_read_tree__pictures_by_content_and_others_counted(tmp_path: Path) -> None:
    paint(tmp_path, "x/0.jpg", "x/1.jfif", "x/2.jpe", "y/0.PNG", kind="JPEG")
    paint(tmp_path, "y/IMG_0001", "y/photo.1", "y/z.jpg_large", kind="PNG")
    for name in ("clip.mp4", "scan.dcm", "notes.txt", "more.txt", "Makefile"):
        (tmp_path / "y" / name).write_text("text")
    tree = read_tree(tmp_path)
    assert len(tree.files) == 7
    assert lines(tmp_path)[1] == "not used in ROOT: 5 files (2 .txt, 1 .dcm, 1 .mp4, 1 without suffix)"
    unused = {other.path for other in open_all(tmp_path).left_out}
    assert unused == {"y/clip.mp4", "y/scan.dcm", "y/notes.txt", "y/more.txt", "y/Makefile"}


def test_read_tree__heic_without_the_extra_is_counted_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contrastive_cli.data import kinds

    paint(tmp_path, "x/0.jpg", "y/0.jpg")
    (tmp_path / "x" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x1cftypheic" + bytes(20))
    monkeypatch.setattr(kinds.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    for function in (kinds.reads_heif, kinds.picture_suffixes, kinds._known_formats):
        function.cache_clear()
    try:
        assert lines(tmp_path)[1].endswith('1 file (1 .heic (`pip install "contrastive-cli[heic]"` reads .heic))')
    finally:
        monkeypatch.undo()
        for function in (kinds.reads_heif, kinds.picture_suffixes, kinds._known_formats):
            function.cache_clear()


def test_read_tree__runs_of_clr_are_not_entered(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{kind}/{n}.png" for kind in "ab" for n in range(2)), "runs/simclr/plots/views.png")
    manifest = tmp_path / "runs" / "simclr" / "manifest.json"
    manifest.write_text(json.dumps({"schema_version": 1, "method": "simclr", "total_steps": 3}))
    assert read_tree(tmp_path).found.classes == ("a", "b")
    assert lines(tmp_path)[1] == "not used in ROOT: 1 folder (1 run of clr)"
    manifest.write_text("{}")  # somebody else's
    assert read_tree(tmp_path).found.classes == ("a", "b", "runs")


def test_read_tree__a_broken_link_is_a_bad_file(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{kind}/{n}.png" for kind in "ab" for n in range(5)))
    (tmp_path / "a" / "gone.jpg").symlink_to("/annex/objects/1.jpg")
    images = open_all(tmp_path)
    assert [bad.path for bad in images.bad_files] == ["a/gone.jpg"]
    assert "/annex/objects/1.jpg" in images.bad_files[0].reason
    with pytest.raises(DataError, match="1 of 11 files cannot be used"):
        open_all(tmp_path, max_bad=0)


@pytest.mark.parametrize(
    "content", [b"", b"<html></html>", b"version https://git-lfs.github.com/spec/v1", b"\xff\xd8\xff"]
)
def test_read_tree__a_class_needs_a_picture_that_can_be_decoded(tmp_path: Path, content: bytes) -> None:
    paint(tmp_path, *(f"{split}/{kind}/{n}.png" for split in ("train", "test") for kind in "ac" for n in range(3)))
    (tmp_path / "train" / "b").mkdir()
    (tmp_path / "train" / "b" / "x.jpg").write_bytes(content)
    for split, expected in (("train", [0, 0, 0, 1, 1, 1]), ("test", [0, 0, 0, 1, 1, 1])):
        images = open_all(tmp_path, split=split)
        assert images.classes == ("a", "c")
        assert images.labels.tolist() == expected


def test_read_tree__linked_splits_keep_their_pictures(tmp_path: Path) -> None:
    paint(tmp_path, *(f"all/{kind}/{n}.png" for kind in "ab" for n in range(3)))
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for kind in "ab":
            (tmp_path / split / kind).symlink_to(tmp_path / "all" / kind)
    tree = read_tree(tmp_path)
    assert tree.found.classes == ("a", "b")
    assert {split: len(members) for split, members in folder_parts(tree).items()} == {"train": 6, "test": 6}


def test_read_tree__pictures_beside_the_splits_are_said(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{split}/{kind}/{n}.png" for split in ("train", "test") for kind in "ab" for n in range(2)))
    paint(tmp_path, "docs/plan.png", "cover.png")
    assert lines(tmp_path)[1] == "not used in ROOT: 2 files (2 pictures beside the splits)"
    assert open_all(tmp_path).num_samples == 8


def test_read_tree__a_doubt_can_be_settled(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{name}/{n}.png" for name in ("cat", "dog", "test") for n in range(2)))
    with pytest.raises(DataError, match="test can be a split or a class") as caught:
        read_tree(tmp_path)
    assert "--layout classes" in str(caught.value.hint)
    assert read_tree(tmp_path, options=TreeOptions(layout="classes")).found.classes == ("cat", "dog", "test")
    assert read_tree(tmp_path, options=TreeOptions(unlabeled=True)).found.classes == ()


def test_describe__says_what_was_found(tmp_path: Path) -> None:
    paint(tmp_path, *(f"photos/class{number:02d}/{n}.png" for number in range(12) for n in range(5)))
    named = ", ".join(f"class{number:02d}" for number in range(10))
    expected = f"12 classes ({named}, ... 2 more); train 48 pictures, test 12 pictures held out (a fifth of each class)"
    assert lines(tmp_path) == [f"ROOT (through photos/): {expected}"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("cats/1.png", "cats/2.png"), r"one class only, cats"),
        (("1.png", "2.png"), r"all 2 pictures lie in one folder"),
        (("train/images/1.png", "test/images/2.png"), r"hold no folders of classes"),
    ],
)
def test_why_no_labels__names_what_was_found(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    paint(tmp_path, *names)
    images = open_all(tmp_path)
    assert not images.has_labels
    assert reason in images.why_no_labels


def test_labels__label_a_flat_folder(tmp_path: Path) -> None:
    paint(tmp_path / "photos", *(f"{n}.png" for n in range(10)))
    file = tmp_path / "labels.csv"
    file.write_text("id,breed\n" + "".join(f"{n},{'cat' if n % 2 else 'dog'}\n" for n in range(9)) + "absent,cat\n")
    images = open_all(tmp_path / "photos", options=TreeOptions(labels=file))
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 1, -1]
    assert images.reading is not None
    assert "1 rows of labels.csv name no picture" in images.reading.describe()
    file.write_text(file.read_text().replace("0,dog", "0,cat"))
    again = open_all(tmp_path / "photos", options=TreeOptions(labels=file))
    assert again.labels[0] == 0  # not the cache of the old labels


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na/1.png,x\na/2.png,y\n",
        "a/1.png,x\na/2.png,y\n",
        "\ufeffFilename;Class\n1.png;x\n2.png;y\n",
        "./a/1.png\tx\na\\2.png\ty\n",
        "row,image_id,age,label\n0,1,30,x\n1,2,40,y\n",
        "label,path\nx,a/1.png\ny,a/2.png\n",
    ],
)
def test_labels__in_the_forms_that_occur(tmp_path: Path, text: str) -> None:
    paint(tmp_path / "photos", "a/1.png", "a/2.png")
    (tmp_path / "labels.csv").write_text(text)
    tree = read_tree(tmp_path / "photos", options=TreeOptions(labels=tmp_path / "labels.csv"))
    assert tree.found.classes == ("x", "y")
    assert tree.found.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no labels"),
        ("path,label\n", "holds no labels"),
        ("path,label\n1.png\n", "labels.csv:2: 1 cells"),
        ("1.png,x\n1.png,y\n", "labels.csv:2: '1.png' is 'y', and was 'x' before"),
        ("other.png,x\n", "names none of the 3 pictures: it says 'other.png', a picture is 'a/1.png'"),
        ("1.png,x\n2.png,y\n", "'1.png' names 'a/1.png' and 'b/1.png'"),
        ('"unfinished', "is no CSV file"),
    ],
)
def test_labels__that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    paint(tmp_path / "photos", "a/1.png", "a/2.png", "b/1.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        read_tree(tmp_path / "photos", options=TreeOptions(labels=tmp_path / "labels.csv"))
    with pytest.raises(DataError, match="cannot read"):
        read_tree(tmp_path / "photos", options=TreeOptions(labels=tmp_path / "absent.csv"))


def test_labels__numbers_are_in_their_order(tmp_path: Path) -> None:
    paint(tmp_path, "0.png", "1.png", "2.png")
    (tmp_path / "labels.csv").write_text("0.png,10\n1.png,9\n2.png,100\n")
    tree = read_tree(tmp_path, options=TreeOptions(labels=tmp_path / "labels.csv"))
    assert tree.found.classes == ("9", "10", "100")
    assert tree.reading.unused == ()  # the file of labels is used


LFW_LAYOUTS = ("lfw-deepfunneled/lfw-deepfunneled", "lfw-py/lfw_funneled", "archive/lfw-deepfunneled/lfw-deepfunneled")


@pytest.mark.parametrize("layout", [*LFW_LAYOUTS, "lfw-dataset/lfw-deepfunneled", "lfw/lfw", "LFW_funneled", "a/b/lfw"])
def test_open_lfw__as_others_unpack_it(tmp_path: Path, layout: str) -> None:
    paint(tmp_path / "data" / layout, *(f"Person_{n}/Person_{n}_000{m}.png" for n in range(9) for m in (1, 2)))
    (tmp_path / "data" / "pairs.csv").write_text("name,imagenum1,imagenum2,\n")
    images = open_dataset("lfw", split="all", data_dir=tmp_path / "data", size=8)
    assert (images.num_samples, len(images.classes)) == (18, 9)


def test_open_lfw__absent_says_where_was_looked(tmp_path: Path) -> None:
    paint(tmp_path, "1.png")
    with pytest.raises(DataError, match="lfw-py/lfw_funneled") as caught:
        open_dataset("lfw", split="all", data_dir=tmp_path, size=8)
    assert "the folder that holds the folders of people" in str(caught.value.hint)


def test_reading__is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{kind}/{n}.png" for kind in "ab" for n in range(3)))
    before = open_all(tmp_path).fingerprint
    (tmp_path / "notes.txt").write_text("x")
    after = open_all(tmp_path)
    assert after.fingerprint == before
    assert [bad.path for bad in after.left_out] == ["notes.txt"]
    assert os.fspath(tmp_path) in after.reading.describe()  # type: ignore[union-attr]

"""Planted faults are found, each of them, and clean pictures are not accused."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from planted_pictures import CLASSES, drawn, make_clean

from contrastive_cli.core.config import read_preset
from contrastive_cli.core.types import CountProgress
from contrastive_cli.services.curation.advice import advise
from contrastive_cli.services.curation.check import DataCheck, check_pictures
from contrastive_cli.services.curation.check_files import check_values, finding_values
from contrastive_cli.services.curation.findings import CHECKS, Finding, Kind, of_kind
from contrastive_cli.services.curation.pictures import open_pictures
from contrastive_cli.services.dataset_config import DatasetConfig


@contextlib.contextmanager
def silent_counting(description: str) -> Iterator[CountProgress]:
    assert description
    yield lambda done, total: None


def checked(root: Path, *, near: float | None = None, **options: Any) -> DataCheck:
    pictures = open_pictures(DatasetConfig(name="folder", data_dir=root, **options))
    return check_pictures(pictures, model=None, near=near, counting=silent_counting)


def paths(found: DataCheck, kind: Kind) -> list[str]:
    return [finding.path for finding in of_kind(found.findings, kind)]


def groups(found: DataCheck, kind: Kind) -> list[set[str]]:
    findings: list[Finding] = of_kind(found.findings, kind)
    return [
        {each.path for each in findings if each.group == number} for number in dict.fromkeys(f.group for f in findings)
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_clean(tmp_path / "photos")


def picture(root: Path, number: int) -> Path:
    return next(root.rglob(f"{number:04d}.png"))


def test_check_pictures__clean_pictures_are_not_accused(root: Path) -> None:
    found = checked(root)
    assert found.findings == ()
    assert len(found.measures.rows) == 78
    assert found.votes is not None


def test_check_pictures__leaks_equal_and_nearly_equal(root: Path) -> None:
    test = sorted((root / "test").rglob("*.png"))
    shutil.copy(test[0], root / "train" / "ants" / "copied.png")
    Image.open(test[1]).save(root / "train" / "ants" / "again.jpg", quality=80)
    Image.open(test[2]).resize((90, 70)).save(root / "train" / "ants" / "resized.png")
    found = checked(root)
    names = [path.relative_to(root).as_posix() for path in test[:3]]
    assert groups(found, "leak")[0] == {names[0], "train/ants/copied.png"}
    assert groups(found, "leak")[1:] in (
        [{names[1], "train/ants/again.jpg"}, {names[2], "train/ants/resized.png"}],
        [{names[2], "train/ants/resized.png"}, {names[1], "train/ants/again.jpg"}],
    )
    first = of_kind(found.findings, "leak")[0]
    assert (first.path, first.split, first.value, first.note) == (names[0], "test", 1.0, "equal")
    assert groups(found, "exact") == [{names[0], "train/ants/copied.png"}]
    assert len(groups(found, "near")) == 2
    assert found.findings[0].kind == "leak"


def test_check_pictures__a_leak_through_copies_in_train(root: Path) -> None:
    test = picture(root, 62)
    for name in ("a", "b"):
        shutil.copy(test, root / "train" / "bees" / f"{name}.png")
    Image.open(test).save(root / "train" / "bees" / "c.jpg", quality=90)
    found = checked(root)
    expected = {test.relative_to(root).as_posix(), *(f"train/bees/{name}" for name in ("a.png", "b.png", "c.jpg"))}
    assert groups(found, "leak") == [expected]


def test_check_pictures__a_drawn_test_part_can_leak_too(tmp_path: Path) -> None:
    for kind, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        for number in range(20):
            drawn(100 * kind + number, kind=kind).save(tmp_path / name / f"{number}.png")
            shutil.copy(tmp_path / name / f"{number}.png", tmp_path / name / f"{number}-copy.png")
    found = checked(tmp_path)
    assert found.pictures.drawn
    split = dict(zip(found.pictures.names, found.pictures.split, strict=True))
    torn = sum(split[name] != split[name.replace(".png", "-copy.png")] for name in split if "copy" not in name)
    assert torn > 5
    assert len(groups(found, "leak")) == torn


def test_check_pictures__equal_pixels_in_other_files(root: Path) -> None:
    Image.open(picture(root, 5)).save(root / "train" / "ants" / "same.bmp")
    shutil.copy(picture(root, 5), root / "train" / "ants" / "bytes.png")
    one_off = np.asarray(Image.open(picture(root, 6))).copy()
    one_off[0, 0, 0] ^= 1
    Image.fromarray(one_off).save(root / "train" / "ants" / "one-pixel.png")
    found = checked(root)
    assert groups(found, "exact") == [{"train/ants/0005.png", "train/ants/bytes.png", "train/ants/same.bmp"}]
    assert groups(found, "near") == [{"train/ants/0006.png", "train/ants/one-pixel.png"}]


def test_check_pictures__a_group_holds_only_pictures_that_are_all_near(root: Path) -> None:
    """A fade from one picture into another is a chain of near pairs, whose ends are far apart."""
    first, last = (np.asarray(drawn(900 + end, kind=end)).astype(float) for end in (0, 1))
    for step in range(12):
        mixed = first + (last - first) * step / 11
        Image.fromarray(mixed.astype(np.uint8)).save(root / "train" / "ants" / f"fade-{step:02d}.png")
    found = checked(root, near=0.95)
    thumbnails = found.measures.gray.reshape(len(found.measures.rows), -1).astype(float)
    correlation = np.corrcoef(thumbnails)
    place = {found.pictures.names[row]: position for position, row in enumerate(found.measures.rows)}
    assert len(groups(found, "near")) > 2
    for group in groups(found, "near"):
        members = [place[name] for name in group]
        assert correlation[np.ix_(members, members)].min() >= 0.95 - 1e-5
    pairs = {
        frozenset(pair) for group in groups(found, "near") for pair in ((a, b) for a in group for b in group if a < b)
    }
    near = {frozenset((a, b)) for a in place for b in place if a < b and correlation[place[a], place[b]] >= 0.95 + 1e-5}
    assert near <= pairs


def test_check_pictures__one_picture_in_two_classes(root: Path) -> None:
    shutil.copy(picture(root, 3), root / "train" / "cats" / "copy.png")
    Image.open(picture(root, 4)).save(root / "train" / "bees" / "again.jpg", quality=90)
    found = checked(root)
    assert groups(found, "conflict") == [
        {"train/ants/0003.png", "train/cats/copy.png"},
        {"train/ants/0004.png", "train/bees/again.jpg"},
    ]


def test_check_pictures__odd_ones_by_themselves(root: Path) -> None:
    folder = root / "train" / "ants"
    drawn(200, kind=0).point(lambda value: value // 12).save(folder / "dark.png")
    Image.new("RGB", (40, 40), (250, 251, 250)).save(folder / "white.png")
    Image.new("RGB", (40, 40), (100, 90, 90)).save(folder / "plain.png")
    drawn(201, kind=0).filter(ImageFilter.GaussianBlur(6)).save(folder / "soft.png")
    drawn(202, kind=0).resize((200, 30)).save(folder / "narrow.png")
    drawn(203, kind=0, side=400).save(folder / "large.png")
    drawn(204, kind=0).resize((7, 7)).save(folder / "tiny.png")
    drawn(205, kind=0).convert("L").save(folder / "gray.png")
    found = checked(root)
    expected = {
        "dark": ["dark"], "bright": ["white"], "empty": ["plain"], "blurred": ["soft"], "aspect": ["narrow"],
    }  # fmt: skip
    for kind, names in expected.items():
        assert paths(found, kind) == [f"train/ants/{name}.png" for name in names], kind  # type: ignore[arg-type]
    assert set(paths(found, "size")) == {"train/ants/large.png", "train/ants/tiny.png"}
    assert {finding.note for finding in of_kind(found.findings, "size")} == {"400 x 400", "7 x 7"}
    assert "train/ants/gray.png" in paths(found, "color")


def test_check_pictures__where_all_are_dark_none_is(tmp_path: Path) -> None:
    for kind, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        for number in range(10):
            dark = drawn(10 * kind + number, kind=kind).point(lambda value: value // 8)
            dark.save(tmp_path / name / f"{number}.png")
    assert paths(checked(tmp_path), "dark") == []


def test_check_pictures__an_outlier(root: Path) -> None:
    for number in range(60):  # all much alike
        pixels = np.asarray(drawn(7, kind=0)).astype(float) + np.asarray(drawn(300 + number, kind=0)) * 0.25
        Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(root / "train" / "ants" / f"x{number}.png")
    for name in ("bees", "cats"):
        shutil.rmtree(root / "train" / name)
        shutil.rmtree(root / "test" / name)
    shutil.rmtree(root / "test")
    for file in sorted((root / "train" / "ants").glob("0*.png")):
        file.unlink()
    checker = (np.indices((40, 40)).sum(axis=0) // 5 % 2 * 255).astype(np.uint8)
    Image.fromarray(np.stack([checker] * 3, axis=2)).save(root / "train" / "ants" / "stranger.png")
    found = checked(root, near=0.9999)
    assert paths(found, "outlier") == ["train/ants/stranger.png"]


def test_check_pictures__wrong_labels(tmp_path: Path) -> None:
    """Classes whose thumbnails tell them apart, as an encoder would."""
    root = tmp_path / "photos"
    for kind, name in enumerate(CLASSES):
        (root / "train" / name).mkdir(parents=True)
        for number in range(40):
            base = np.asarray(drawn(1000 + kind, kind=kind)).astype(float)
            mixed = 0.6 * base + 0.4 * np.asarray(drawn(2000 + 100 * kind + number, kind=kind))
            Image.fromarray(mixed.astype(np.uint8)).save(root / "train" / name / f"{number:02d}.png")
    clean = checked(root, near=0.9999)
    assert clean.votes is not None
    assert clean.votes.judged
    assert paths(clean, "label") == []
    for number in (3, 17):
        (root / "train" / "ants" / f"{number:02d}.png").rename(root / "train" / "cats" / f"moved-{number}.png")
    found = checked(root, near=0.9999)
    assert set(paths(found, "label")) == {"train/cats/moved-3.png", "train/cats/moved-17.png"}
    assert all(finding.note.startswith("ants?") for finding in of_kind(found.findings, "label"))


def test_check_pictures__unreadable_and_unbalanced(root: Path) -> None:
    for number in range(5):
        (root / "train" / "bees" / f"broken-{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    for file in sorted((root / "train" / "cats").iterdir())[2:]:
        file.unlink()
    shutil.rmtree(root / "test" / "bees")
    found = checked(root)
    assert paths(found, "unreadable") == [f"train/bees/broken-{number}.jpg" for number in range(5)]
    balance = {finding.label: finding.note for finding in of_kind(found.findings, "balance")}
    assert balance == {"bees": "none in test"}
    assert found.measures.rows.shape == (54,)
    advice = advise(found.pictures, found.measures)
    assert advice.words[advice.words.index("--max-bad") + 1] == "0.11"  # 5 of 47 in train, rounded up


@pytest.mark.parametrize(("side", "size", "said"), [(60, 48, []), (40, 32, ["--set", "dataset.size=32"])])
def test_advise__a_preset_keeps_its_size_unless_pictures_are_smaller(
    side: int, size: int, said: list[str], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0)
    for number in range(20):
        file = tmp_path / "photos" / f"c{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (side, side + 9, 3), dtype=np.uint8)).save(file)
    found = checked(tmp_path / "photos")
    advice = advise(found.pictures, found.measures)
    preset = read_preset("folder-simclr-cpu")
    assert (advice.preset, advice.size) == ("folder-simclr-cpu", size)
    assert preset["dataset"]["size"] == 48
    assert advice.crop_area is not None
    assert list(advice.crop_area) == preset["views"]["crop_area"]
    assert list(advice.words[advice.words.index("--data-dir") + 2 :]) == said
    assert advice.batch_size == 8  # half of the 16 of train, as a training takes without being told


def test_check_pictures__values_are_whole_lists(root: Path) -> None:
    for number in range(30):
        shutil.copy(picture(root, number), root / "train" / "ants" / f"copy-{number}.png")
    found = checked(root)
    values = check_values(found, advise(found.pictures, found.measures))
    assert len(values["findings"]["exact"]) == 60
    assert values["counts"]["exact"] == 30
    assert values["findings"].keys() == CHECKS.keys()
    assert [finding_values(finding) for finding in found.findings] == [
        row for kind in CHECKS for row in values["findings"][kind]
    ]
    assert values["classes"]["test"] == {"ants": 6, "bees": 6, "cats": 6}
    pixels = np.stack([np.asarray(Image.open(file)) for file in root.rglob("*.png")]) / 255
    assert values["channels"]["mean"] == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-6)
    assert values["channels"]["std"] == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-6)


def test_check_pictures__nothing_is_changed(root: Path) -> None:
    shutil.copy(picture(root, 0), root / "train" / "cats" / "copy.png")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}
    checked(root)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")} == before


def test_check_pictures__of_a_dataset_in_an_archive() -> None:
    pictures = open_pictures(DatasetConfig(name="digits"))
    found = check_pictures(pictures, model=None, near=None, counting=silent_counting)
    assert (len(pictures.names), set(pictures.split)) == (1797, {"train", "test"})
    assert of_kind(found.findings, "leak") == []
    assert found.votes is not None
    assert found.votes.accuracy > 0.97
    assert len(of_kind(found.findings, "label")) < 30
    assert advise(pictures, found.measures).command == "clr pretrain --dataset digits"

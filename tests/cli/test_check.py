"""`clr datasets check` as a user types it: what it says, what it writes, and that its suggestion runs."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from clr_process import Clr
from PIL import Image

from contrastive_cli.services.curation.findings import CHECKS

HOSTILE = ('"><img src=x onerror=alert(1)>.png', "=cmd.png", "new\nline.png", "\x1b[31mred.png", "@a.png")


def blob(seed: int, *, side: int = 32) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(30, 226, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a leak, hostile names, a file that is no picture, and one under two classes."""
    root = tmp_path_factory.mktemp("where") / "my photos"
    for split, count in (("train", 24), ("test", 6)):
        for number, name in enumerate(("cat", "=dog")):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                blob(1000 * number + index + 100 * (split == "test")).save(root / split / name / f"{index:03d}.png")
    train = root / "train"
    for index, name in enumerate(HOSTILE):
        shutil.copy(train / "cat" / f"{index:03d}.png", train / "cat" / name)
    shutil.copy(root / "test" / "cat" / "000.png", train / "cat" / "leaked.png")
    shutil.copy(train / "cat" / "010.png", train / "=dog" / "both.png")
    (train / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    return root


def test_check__finds_what_was_planted(clr: Clr, photos: Path) -> None:
    result = clr("datasets", "check", photos, cwd=photos.parent)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert "The same picture in two splits: 1 held-out picture" in lines
    assert "  test/cat/000.png = train/cat/leaked.png (cat, 1, equal)" in lines
    assert "Cannot be read: 1 file" in lines
    assert "Equal pictures: 7 groups" in lines
    assert "\x1b" not in result.out
    assert lines.index("Equal pictures: 7 groups") > lines.index("Cannot be read: 1 file")


def test_check__json_has_every_finding_and_nothing_else(clr: Clr, photos: Path) -> None:
    result = clr("datasets", "check", "--json", photos, cwd=photos.parent)
    assert result.code == 0, result.err
    found = result.json
    assert found["findings"].keys() == CHECKS.keys()
    assert [row["path"] for row in found["findings"]["leak"]] == ["test/cat/000.png", "train/cat/leaked.png"]
    assert len(found["findings"]["exact"]) == 14
    assert f"train/cat/{HOSTILE[2]}" in {row["path"] for row in found["findings"]["exact"]}
    assert found["splits"] == {"test": 12, "train": 56}
    assert found["counts"]["conflict"] == 1
    assert found["files"] == []


def test_check__tables(clr: Clr, photos: Path, tmp_path: Path) -> None:
    targets = tmp_path / "check.csv", tmp_path / "check.jsonl"
    result = clr("datasets", "check", photos, "--out", targets[0], "--out", targets[1], "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    expected = [row for kind in CHECKS for row in result.json["findings"][kind]]
    assert [json.loads(line) for line in targets[1].read_text().splitlines()] == expected
    with targets[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"].removeprefix("./") for row in rows] == [row["path"] for row in expected]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert "'=dog" in {row["class"] for row in rows}
    again = clr("datasets", "check", photos, "--out", targets[0], cwd=tmp_path)
    assert (again.code, "--overwrite" in again.err) == (5, True)
    assert clr("datasets", "check", photos, "--out", targets[0], "--overwrite", cwd=tmp_path).code == 0


def test_check__page_is_replaced_but_no_other(clr: Clr, photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "check.html"
    for _ in range(2):
        assert clr("datasets", "check", photos, "--out", page, cwd=tmp_path).code == 0
    assert "onerror=alert(1)>" not in page.read_text()
    page.write_text("<p>mine")
    refused = clr("datasets", "check", photos, "--out", page, cwd=tmp_path)
    assert (refused.code, page.read_text()) == (5, "<p>mine")


def test_check__the_suggested_command_runs(clr: Clr, photos: Path, tmp_path: Path) -> None:
    result = clr("datasets", "check", photos, "--json", cwd=tmp_path)
    suggestion = result.json["suggestion"]
    assert suggestion["size"] == 32
    assert suggestion["batch_size"] == 16
    words = shlex.split(suggestion["command"])
    assert words == suggestion["arguments"]
    assert words[:2] == ["clr", "pretrain"]
    trained = clr(*words[1:], "--epochs", "1", "--out", "run", "--set", "encoder.width=4", cwd=tmp_path)
    assert trained.code == 0, trained.err
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "size: 32" in config


def test_check__with_a_run(clr: Clr, trained: Path, tmp_path: Path) -> None:
    saved = clr("datasets", "digits", "--save-images", tmp_path / "png", "--count", "60", cwd=trained)
    assert saved.code == 0, saved.err
    first = sorted((tmp_path / "png").rglob("*.png"))[0]
    Image.open(first).rotate(1).save(first.with_name("turned.png"))
    result = clr("datasets", "check", tmp_path / "png", "--run", "runs/small", "--json", cwd=trained)
    assert result.code == 0, result.err
    assert result.json["compared_by"] == "the encoder of small"
    whole = clr("datasets", "check", "--dataset", "digits", "--run", "runs/small", "--json", cwd=trained)
    assert whole.code == 0, whole.err
    assert whole.json["vote"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "a folder or --dataset"),
        (["photos", "--dataset", "digits"], 2, "a folder or --dataset"),
        (["digits"], 3, "--dataset digits"),
        (["--dataset", "digitz"], 2, "digits"),
        (["empty"], 3, "no images"),
        (["empty", "--out", "check.txt"], 2, ".html"),
        (["empty", "--device", "cpu"], 2, "--run"),
        (["empty", "--run", "nothing"], 5, "no run"),
        (["empty", "--near", "2"], 2, "--near"),
        (["--dataset", "cifar10", "--data-dir", "empty"], 3, "cifar10 is not in"),
        (["empty", "--data-dir", "elsewhere"], 2, "--data-dir"),
    ],
)
def test_check__refusals(clr: Clr, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "empty").mkdir()
    result = clr("datasets", "check", *arguments, cwd=tmp_path)
    assert (result.code, message in result.err) == (code, True), result.err
    assert "Traceback" not in result.err


def test_check__a_folder_without_one_readable_picture(clr: Clr, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("no")
    result = clr("datasets", "check", "photos", cwd=tmp_path)
    assert (result.code, "none of the 1 pictures can be read" in result.err) == (3, True), result.err


def test_check__one_picture_and_two(clr: Clr, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        blob(number).save(tmp_path / "photos" / f"{number}.png")
        result = clr("datasets", "check", "photos", cwd=tmp_path)
        assert result.code == 0, result.err


def test_datasets__keeps_its_own_shape(clr: Clr, tmp_path: Path) -> None:
    assert clr("datasets", cwd=tmp_path).code == 0
    helped = clr("datasets", "check", "--help", cwd=tmp_path)
    assert helped.out.startswith("Usage: clr datasets check")
    assert "clr datasets check" in clr("datasets", "--help", cwd=tmp_path).out

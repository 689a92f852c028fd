"""`clr datasets check` as a user types it: what it says, what it writes, and that its suggestion runs."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clr_process import Clr, run_all
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


@dataclass(frozen=True)
class Said:
    """What one check said and wrote in every form, and what became of files that were there."""

    text: str
    values: Any
    folder: Path
    codes: dict[str, int]


@pytest.fixture(scope="module")
def said(photos: Path, clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> Said:
    folder = tmp_path_factory.mktemp("said")
    (folder / "mine.html").write_text("<p>mine")
    check = ["datasets", "check", str(photos)]
    commands = {
        "text": check,
        "json": [*check, "--json", "--out", "check.csv", "--out", "check.jsonl", "--out", "check.html"],
        "table again": [*check, "--out", "check.csv"],
        "table over": [*check, "--out", "check.csv", "--overwrite"],
        "page again": [*check, "--out", "check.html"],
        "other page": [*check, "--out", "mine.html"],
    }
    done = dict(zip(commands, run_all(clr, list(commands.values()), cwd=folder), strict=True))
    assert done["text"][0] == done["json"][0] == 0, done
    codes = {name: code for name, (code, _, _) in done.items()}
    return Said(text=done["text"][1], values=json.loads(done["json"][1]), folder=folder, codes=codes)


def test_check__finds_what_was_planted(said: Said) -> None:
    lines = said.text.splitlines()
    assert "The same picture in two splits: 1 held-out picture" in lines
    assert "  test/cat/000.png = train/cat/leaked.png (cat, 1, equal)" in lines
    assert "Cannot be read: 1 file" in lines
    assert "Equal pictures: 7 groups" in lines
    assert "\x1b" not in said.text
    assert lines.index("Equal pictures: 7 groups") > lines.index("Cannot be read: 1 file")


def test_check__json_has_every_finding(said: Said) -> None:
    found = said.values
    assert found["findings"].keys() == CHECKS.keys()
    assert [row["path"] for row in found["findings"]["leak"]] == ["test/cat/000.png", "train/cat/leaked.png"]
    assert len(found["findings"]["exact"]) == 14
    assert f"train/cat/{HOSTILE[2]}" in {row["path"] for row in found["findings"]["exact"]}
    assert found["splits"] == {"test": 12, "train": 56}
    assert found["counts"]["conflict"] == 1
    assert found["files"] == ["check.csv", "check.jsonl", "check.html"]


def test_check__tables_hold_the_same_and_no_formula(said: Said) -> None:
    expected = [row for kind in CHECKS for row in said.values["findings"][kind]]
    lines = (said.folder / "check.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected
    with (said.folder / "check.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"].removeprefix("./") for row in rows] == [row["path"] for row in expected]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert "'=dog" in {row["class"] for row in rows}


def test_check__writes_over_its_own_page_only(said: Said) -> None:
    assert said.codes == {"text": 0, "json": 0, "table again": 5, "table over": 0, "page again": 0, "other page": 5}
    assert "onerror=alert(1)>" not in (said.folder / "check.html").read_text()
    assert (said.folder / "mine.html").read_text() == "<p>mine"


def test_check__the_suggested_command_runs(clr: Clr, said: Said, tmp_path: Path) -> None:
    suggestion = said.values["suggestion"]
    assert suggestion["size"] == 32
    assert suggestion["batch_size"] == 28
    words = shlex.split(suggestion["command"])
    assert words == suggestion["arguments"]
    assert words[:2] == ["clr", "pretrain"]
    trained = clr(*words[1:], "--epochs", "1", "--out", "run", "--set", "encoder.width=4", cwd=tmp_path)
    assert trained.code == 0, trained.err
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "size: 32" in config


def test_check__with_a_run(clr: Clr, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs" / "small", tmp_path / "runs" / "small")  # the rows of linear-eval stay in the run
    saved = clr("datasets", "digits", "--save-images", tmp_path / "png", "--count", "60", cwd=tmp_path)
    assert saved.code == 0, saved.err
    first = sorted((tmp_path / "png").rglob("*.png"))[0]
    Image.open(first).rotate(1).save(first.with_name("turned.png"))
    result = clr("datasets", "check", tmp_path / "png", "--run", "runs/small", "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.json["compared_by"] == "the encoder of small"
    whole = clr("datasets", "check", "--dataset", "digits", "--run", "runs/small", "--json", cwd=tmp_path)
    assert whole.code == 0, whole.err
    assert whole.json["vote"]["accuracy"] > 0.9
    raw = clr("linear-eval", "--run", "runs/small", "--head", "knn", "--baseline", "none", "--json", cwd=tmp_path)
    shares = {row["features"]: row["accuracy"] for row in raw.json["rows"]}
    assert shares["pretrained whitened"] > shares["pretrained"]
    assert whole.json["vote"]["accuracy"] > shares["pretrained"]  # neighbors are asked in the space of the run


REFUSED = {
    "": (2, "a folder or --dataset"),
    "photos --dataset digits": (2, "a folder or --dataset"),
    "digits": (3, "--dataset digits"),
    "--dataset digitz": (2, "digits"),
    "empty": (3, "no images"),
    "empty --out check.txt": (2, ".html"),
    "empty --device cpu": (2, "--run"),
    "empty --run nothing": (5, "no run"),
    "empty --near 2": (2, "--near"),
    "--dataset cifar10 --data-dir empty": (3, "cifar10 is not in"),
    "empty --data-dir elsewhere": (2, "--data-dir"),
    "bad": (3, "none of the 1 pictures can be read"),
}


def test_check__refusals_and_tiny_folders(tmp_path: Path, clr: Clr) -> None:
    for name in ("empty", "bad", "one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("no")
    for number, folders in enumerate((("one", "two"), ("two",))):
        for folder in folders:
            blob(number).save(tmp_path / folder / f"{number}.png")
    lines = [*REFUSED, "one", "two"]
    done = run_all(clr, [["datasets", "check", *line.split()] for line in lines], cwd=tmp_path)
    for line, (code, out, err) in zip(lines, done, strict=True):
        wanted, message = REFUSED.get(line, (0, ""))
        assert (code, message in err) == (wanted, True), (line, out, err)
        assert "Traceback" not in err, line


def test_datasets__keeps_its_own_shape(clr: Clr, tmp_path: Path) -> None:
    helped = clr("datasets", "check", "--help", cwd=tmp_path)
    assert helped.out.startswith("Usage: clr datasets check")
    assert "  check  " in clr("datasets", "--help", cwd=tmp_path).out

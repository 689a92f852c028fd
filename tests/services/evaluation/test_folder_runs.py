"""What is measured on a folder, and what is said of it."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import SMALL_RUN

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.data.own_datasets import name_dataset
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.evaluation.finetuned import evaluate_finetuned
from contrastive_cli.services.evaluation.linear_eval import frozen_rows, summarize_evaluation
from contrastive_cli.services.evaluation.rows import open_splits
from contrastive_cli.services.evaluation.verification import save_pairs
from contrastive_cli.services.inference.image_files import embed_paths, expand_paths
from contrastive_cli.services.inference.model import load_model
from contrastive_cli.services.inference.splits import other_dataset
from contrastive_cli.services.training.finetuning import finetune_session
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import resume_session, start_session

SMALL = {**SMALL_RUN, "dataset.name": "folder", "dataset.size": 16, "train.batch_size": 8, "train.epochs": 1}
PAGE = Path(__file__).parents[3] / "docs" / "folders.md"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, clr_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("CLR_CACHE", str(clr_cache))
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, logger="contrastive_cli")


def paint(folder: Path, count: int, *, seed: int = 0) -> None:
    """Noise pictures."""
    generator = np.random.default_rng((seed, count, *folder.name.encode()))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}-{number:03d}.png")


def train(out: Path, **changes: Any) -> Run:
    flags = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    session = start_session(resolve(config=None, sets={}, flags=nested(flags)).config, out=out, overwrite=False)
    for _ in train_session(session):
        pass
    return session.run


def linear_rows(run: Run, **options: Any) -> Any:
    model = load_model(run, device="cpu")
    dataset = other_dataset(model, **{"name": None, "data_dir": None, "download": False, "max_bad": None, **options})
    splits = open_splits(model, dataset=dataset)
    rows = list(frozen_rows(model, splits, heads=["knn"], baselines=[], fractions=[1.0], seeds=1))
    return summarize_evaluation(model, splits, rows=rows, fractions=[1.0], seeds=1)


def test_open_splits__equal_pictures_missing_classes_and_shares_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, count in (("many", 20), ("few", 4), ("single", 1)):
        paint(tmp_path / "photos" / "train" / name, count)
    paint(tmp_path / "photos" / "test" / "many", 6, seed=1)
    paint(tmp_path / "photos" / "test" / "few", 1, seed=1)
    with Image.open(tmp_path / "photos" / "train" / "many" / "0-003.png") as image:
        image.save(tmp_path / "photos" / "test" / "many" / "copy.bmp")  # other bytes, the same pixels
    (tmp_path / "photos" / "clip.mp4").write_bytes(b"x")
    run = train(tmp_path / "run", dataset__data_dir=str(tmp_path / "photos"))
    (row,) = linear_rows(run).rows
    said = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("warning: 1 of 8 test images are equal to images of train") for line in said)
    assert any("test/many/copy.bmp" in line for line in said)
    assert "warning: the test split has images of 2 of 3 classes" in said
    assert any("3 classes (few, many, single); train 25 pictures from train/" in line for line in said)
    assert row.largest_class == 7 / 8
    assert row.balanced_accuracy is not None
    with (run.path / "bad_files.csv").open() as file:
        assert [line["path"] for line in csv.DictReader(file)] == ["clip.mp4"]


def test_open_splits__val_where_test_has_no_labels_or_is_not_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split, count in (("train", 10), ("val", 3)):
        for name in "ab":
            paint(tmp_path / "photos" / split / name, count, seed=count)
    paint(tmp_path / "photos" / "test", 4, seed=9)
    run = train(tmp_path / "run", dataset__data_dir=str(tmp_path / "photos"))
    found = linear_rows(run)
    assert (found.test_split, found.test_images, found.name) == ("val", 6, "folder-val")
    assert any("val is used in its place" in record.getMessage() for record in caplog.records)
    assert linear_rows(run, split="val").test_images == 6
    for split in ("train", "all"):
        with pytest.raises(UsageError, match=f"--split {split} has the images that are trained on"):
            linear_rows(run, split=split)
    flags = nested({"train.epochs": 1, "device": "cpu", "dataset.test_split": "val"})
    session = finetune_session(run, config=None, sets={}, flags=flags, out=tmp_path / "tuned", overwrite=False)
    for _ in train_session(session):
        pass
    result, file = evaluate_finetuned(session.run, device="cpu")
    assert (result.test_split, result.test_images, result.largest_class) == ("val", 6, 0.5)
    assert json.loads(file.read_bytes())["balanced_accuracy"] is None


def test_open_splits__labels_given_later_hold_out_other_pictures(tmp_path: Path) -> None:
    paint(tmp_path / "photos", 20)
    rows = [f"0-{n:03d}.png,{'a' if n < 10 else 'b'}\n" for n in range(20)]
    (tmp_path / "labels.csv").write_text("".join(rows))
    plain = train(tmp_path / "plain", dataset__data_dir=str(tmp_path / "photos"))
    with pytest.raises(DataError, match=r"split train of folder has no labels.*all 20 pictures lie in one folder"):
        linear_rows(plain)
    with pytest.raises(DataError, match="with these labels other images of folder are held out"):
        linear_rows(plain, labels=Path("labels.csv"))
    flags = {"dataset__data_dir": str(tmp_path / "photos"), "dataset__labels": "labels.csv"}
    assert linear_rows(train(tmp_path / "labeled", **flags)).test_images == 4


def test_open_splits__labels_given_later_of_splits_with_folders_are_taken(tmp_path: Path) -> None:
    paint(tmp_path / "photos" / "train", 12)
    paint(tmp_path / "photos" / "test", 6, seed=1)
    files = sorted((tmp_path / "photos").rglob("*.png"))
    (tmp_path / "labels.csv").write_text("".join(f"{file.name},{n % 2}\n" for n, file in enumerate(files)))
    run = train(tmp_path / "run", dataset__data_dir=str(tmp_path / "photos"))
    assert linear_rows(run, labels=Path("labels.csv")).test_images == 6


def test_refuse_moved_split__names_the_newer_file(tmp_path: Path) -> None:
    for name in "ab":
        paint(tmp_path / "photos" / name, 10)
    run = train(tmp_path / "run", dataset__data_dir=str(tmp_path / "photos"))
    paint(tmp_path / "photos" / "a", 5, seed=1)
    with pytest.raises(DataError, match=r"newer than the run: a/1-00\d\.png"):
        linear_rows(run)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("cats",), "folder has none: there is one class only, cats"),
        ((".",), "folder has none: all 8 pictures lie in one folder, .*photos"),
        (("train/a", "test/a", "test/b"), "all labels of split train are of one"),
    ],
)
def test_set_up__supcon_needs_two_classes_that_occur(tmp_path: Path, folders: tuple[str, ...], message: str) -> None:
    for folder in folders:
        paint(tmp_path / "photos" / folder, 8)
    with pytest.raises(DataError, match=message) as caught:
        train(tmp_path / "run", dataset__data_dir=str(tmp_path / "photos"), method__name="supcon")
    assert caught.value.hint is not None


def test_unlabeled__takes_no_albums_for_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for album in ("summer", "winter"):
        paint(tmp_path / "photos" / album, 10)
    flags = {"dataset__data_dir": str(tmp_path / "photos"), "dataset__unlabeled": True}
    run = train(tmp_path / "run", **flags)
    assert run.manifest().classes == ()
    assert any("labels are not taken" in record.getMessage() for record in caplog.records)
    with pytest.raises(UsageError, match="exclude each other"):
        train(tmp_path / "both", **flags, dataset__labels="labels.csv")


def test_embed_paths__labels_are_the_classes_below_the_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split, count in (("Training", 8), ("Testing", 3)):
        for name in "ab":
            paint(tmp_path / "photos" / split / name, count, seed=count)
    run = train(tmp_path / "run", dataset__data_dir=str(tmp_path / "photos"))
    (tmp_path / "photos" / "Testing" / "a" / "broken.png").write_bytes(b"x")
    expanded = expand_paths([tmp_path / "photos"])
    embeddings, bad = embed_paths(load_model(run, device="cpu"), expanded.files, labels=expanded.labels)
    assert embeddings.classes == ("a", "b")
    assert embeddings.labels is not None
    assert np.bincount(embeddings.labels).tolist() == [11, 11]
    assert [Path(str(error.path)).name for error in bad] == ["broken.png"]
    assert any("test 7 pictures from Testing/" in record.getMessage() for record in caplog.records)
    assert save_pairs(tmp_path / "pairs.csv", dataset=_folder(tmp_path), split="test", count=4, seed=0) == 4
    assert "Testing/a/" in (tmp_path / "pairs.csv").read_text()


def _folder(tmp_path: Path) -> DatasetConfig:
    return DatasetConfig(name="folder", data_dir=tmp_path / "photos")


def test_expand_paths__options_are_for_one_folder(tmp_path: Path) -> None:
    from contrastive_cli.data.sources import TreeOptions

    paint(tmp_path / "photos", 2)
    with pytest.raises(UsageError, match="are for one folder"):
        expand_paths([tmp_path / "photos" / "0-000.png"], options=TreeOptions(unlabeled=True))


def test_own_dataset__is_recorded_and_named_again(tmp_path: Path) -> None:
    file = tmp_path / "my_data.py"
    file.write_text(PAGE.read_text().partition("```python\n")[2].partition("```")[0].replace('"noise"', '"noise-run"'))
    run = train(tmp_path / "run", dataset__name="my_data.py")
    facts = run.manifest().dataset
    assert (facts.name, facts.file) == ("noise-run", str(file))
    assert facts.file_sha256 is not None
    assert run.config()["dataset"]["name"] == str(file)
    assert linear_rows(run).test_images == 64
    assert linear_rows(run, name=name_dataset("my_data.py")).name == "noise-run"
    run.update(status="interrupted")
    assert resume_session(run).setup.images.fingerprint == facts.fingerprint


def test_read_run_config__of_a_run_from_before_has_defaults(tmp_path: Path) -> None:
    for name in "ab":
        paint(tmp_path / "photos" / name, 10)
    run = train(tmp_path / "run", dataset__data_dir=str(tmp_path / "photos"))
    text = (run.path / "config.yaml").read_text()
    for line in ("  labels: null\n", "  unlabeled: false\n", "  layout: auto\n", "  test_split: test\n"):
        assert line in text
        text = text.replace(line, "")
    (run.path / "config.yaml").write_text(text)
    assert linear_rows(run).test_images == 4

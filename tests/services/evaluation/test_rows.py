"""Evaluations of a folder's run: never on images of the training, each set of images in files of its own."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import SMALL_RUN

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.probes.label_subsets import confidence_interval, label_subset
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.evaluation.linear_eval import (
    distinct_fractions,
    frozen_rows,
    parse_fractions,
    save_evaluation,
    summarize_evaluation,
)
from contrastive_cli.services.evaluation.rows import make_row, open_splits
from contrastive_cli.services.evaluation.uncertainty import measure_uncertainty
from contrastive_cli.services.inference.model import load_model
from contrastive_cli.services.inference.splits import other_dataset
from contrastive_cli.services.reporting import summarize
from contrastive_cli.services.training import loop as training
from contrastive_cli.services.training.finetuning import finetune_session
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import resume_session, start_session

SMALL = {**SMALL_RUN, "dataset.name": "folder", "dataset.size": 16, "train.batch_size": 8, "train.epochs": 1}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, clr_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLR_CACHE", str(clr_cache))
    monkeypatch.chdir(tmp_path)


def paint(root: Path, *names: str, count: int, seed: int = 0) -> None:
    """Noise pictures in folders."""
    generator = np.random.default_rng((seed, count))
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{seed}-{number:03d}.png")


def pretrain(data: Path, out: Path, **changes: Any) -> Run:
    flags = {**SMALL, "dataset.data_dir": str(data)} | {key.replace("__", "."): value for key, value in changes.items()}
    session = start_session(resolve(config=None, sets={}, flags=nested(flags)).config, out=out, overwrite=False)
    for _ in train_session(session):
        pass
    return session.run


def evaluate(run: Run, *, data_dir: Path | None = None, fractions: tuple[float, ...] = (1.0,)) -> Path:
    """What `clr linear-eval --head knn --baseline none` does."""
    model = load_model(run, device="cpu")
    dataset = other_dataset(model, name=None, data_dir=data_dir, download=False, max_bad=None)
    splits = open_splits(model, dataset=dataset)
    common: dict[str, Any] = {"fractions": fractions, "seeds": 2}
    rows = list(frozen_rows(model, splits, heads=["knn"], baselines=[], **common))
    return save_evaluation(run, summarize_evaluation(model, splits, rows=rows, **common), splits)


def test_open_splits__images_of_the_training_are_never_tested_on(tmp_path: Path) -> None:
    paint(tmp_path / "photos", "a", "b", count=20)
    run = pretrain(tmp_path / "photos", tmp_path / "run")
    paint(tmp_path / "photos", "a", "b", count=2, seed=1)  # which moves the drawn split
    model = load_model(run, device="cpu")
    for changed in (
        {"data_dir": None, "max_bad": None},
        {"data_dir": Path("photos"), "max_bad": None},  # the run knows the absolute path
        {"data_dir": None, "max_bad": 0.5},
    ):
        dataset = other_dataset(model, name=None, download=False, **changed)
        with pytest.raises(DataError, match="test split moved"):
            open_splits(model, dataset=dataset)
    flags = nested({"train.epochs": 1, "device": "cpu"})
    with pytest.raises(DataError, match="test split moved"):
        finetune_session(run, config=None, sets={}, flags=flags, out=tmp_path / "tuned", overwrite=False)


def test_save_evaluation__other_images_leave_the_runs_own_results_alone(tmp_path: Path) -> None:
    paint(tmp_path / "photos", "a", "b", count=20)
    paint(tmp_path / "other", "a", "b", count=10, seed=2)
    run = pretrain(tmp_path / "photos", tmp_path / "run")
    own = evaluate(run, fractions=(0.5, 1.0))
    images = own.with_name("linear-folder-images.npz")
    before = own.read_bytes(), images.read_bytes()
    other = evaluate(run, data_dir=tmp_path / "other")
    assert own.name == "linear-folder.json"
    assert other.name.startswith("linear-folder-")
    assert (own.read_bytes(), images.read_bytes()) == before
    assert evaluate(run, data_dir=Path("photos")) == own


def test_save_evaluation__positions_in_images_that_are_gone_do_not_stay(tmp_path: Path) -> None:
    paint(tmp_path / "photos/train", "a", "b", count=20)
    paint(tmp_path / "photos/test", "a", "b", count=4, seed=3)
    run = pretrain(tmp_path / "photos", tmp_path / "run")
    evaluate(run, fractions=(0.5,))
    paint(tmp_path / "photos/test", "a", "b", count=2, seed=4)
    file = evaluate(run)
    with np.load(file.with_name("linear-folder-images.npz")) as arrays:
        assert set(arrays.files) == {"fraction-1-seed-0"}


def test_conclude__counts_the_images_that_have_a_label(tmp_path: Path) -> None:
    paint(tmp_path / "photos/train", "a", "b", count=10)
    paint(tmp_path / "photos/test", "a", "b", count=3, seed=5)
    paint(tmp_path / "photos/test", ".", count=4, seed=6)
    run = pretrain(tmp_path / "photos", tmp_path / "run")
    assert json.loads(evaluate(run).read_bytes())["test_images"] == 6


def test_summarize__shows_no_accuracy_of_weights_that_are_gone(tmp_path: Path) -> None:
    paint(tmp_path / "photos", "a", "b", count=20)
    run = pretrain(tmp_path / "photos", tmp_path / "run", train__epochs=2)
    model = load_model(run, device="cpu")
    splits = open_splits(model)
    common: dict[str, Any] = {"fractions": (0.5, 1.0), "seeds": 1}
    rows = list(frozen_rows(model, splits, heads=["linear"], baselines=[], **common))
    save_evaluation(run, summarize_evaluation(model, splits, rows=rows, **common), splits)
    assert summarize(run)["linear"] == rows[1].accuracy
    config = resolve(config=str(run.path / "config.yaml"), sets={}, flags=nested({"train.epochs": 3})).config
    run.write_config(config)
    for _ in train_session(resume_session(run)):
        pass
    assert summarize(run)["linear"] is None


def test_subsets__that_hold_all_labels_are_one(tmp_path: Path) -> None:
    paint(tmp_path / "photos", "a", "b", count=20)
    splits = open_splits(load_model(pretrain(tmp_path / "photos", tmp_path / "run"), device="cpu"))
    assert len(splits.subsets(0.999, seeds=3)) == len(splits.subsets(1.0, seeds=3)) == 1
    assert len(splits.subsets(0.5, seeds=3)) == 3


def test_make_row__an_interval_is_never_narrower_than_the_test_images_allow() -> None:
    labels = np.zeros(20, np.int64)
    splits: Any = SimpleNamespace(test_labels=torch.from_numpy(labels), train=SimpleNamespace(labels=labels))
    right = (torch.arange(20) >= 18).long()  # 18 of 20
    same = make_row(splits, features="f", head="h", fraction=0.5, predictions=[right, right], labels=5)
    assert same.label_share == 0.25
    assert same.ci95 == confidence_interval(18, 20)
    far = make_row(splits, features="f", head="h", fraction=0.5, predictions=[right, 1 - right], labels=5)
    assert (far.accuracy, far.ci95) == (0.5, (0.0, 1.0))


def test_parse_fractions__twice_is_once() -> None:
    assert parse_fractions("0.1,1,0.1") == (0.1, 1.0)


def test_distinct_fractions__those_of_the_same_labels_are_one(caplog: pytest.LogCaptureFixture) -> None:
    labels = torch.arange(40) % 8  # five of each class: both 0.01 and 0.1 take one

    def subsets(fraction: float, *, seeds: int) -> list[torch.Tensor]:
        return [label_subset(labels, fraction=fraction, seed=seed) for seed in range(seeds)]

    splits: Any = SimpleNamespace(subsets=subsets)
    with caplog.at_level(logging.INFO, "contrastive_cli"):
        assert distinct_fractions(splits, (0.01, 0.1, 0.4, 1.0)) == (0.01, 0.4, 1.0)
    assert caplog.messages == ["the label fraction 0.1 is left out: it gives the 8 labels of 0.01"]


def test_online_probe__one_label_is_too_few_to_vote(tmp_path: Path) -> None:
    paint(tmp_path / "photos/train", "a", count=1)
    paint(tmp_path / "photos/train", "b", count=1, seed=7)
    paint(tmp_path / "photos/train", ".", count=2, seed=8)
    (tmp_path / "photos/train/b/7-000.png").unlink()
    paint(tmp_path / "photos/test", "a", "b", count=2, seed=9)
    run = pretrain(tmp_path / "photos", tmp_path / "run", train__evaluations=1, train__batch_size=3)
    last = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    assert "online/spread" in last
    assert "online/knn" not in last


def test_train_session__a_bug_leaves_the_run_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    paint(tmp_path / "photos", "a", "b", count=20)
    monkeypatch.setattr(training, "paced_steps", broken)
    with pytest.raises(ZeroDivisionError):
        pretrain(tmp_path / "photos", tmp_path / "run")
    assert Run(tmp_path / "run").manifest().status == "failed"


def test_measure_uncertainty__the_probe_is_judged_on_classes_that_it_knows(tmp_path: Path) -> None:
    paint(tmp_path / "photos/train", "a", "b", count=12)
    paint(tmp_path / "photos/test", "c", "d", count=10, seed=10)
    run = pretrain(tmp_path / "photos", tmp_path / "run", method__name="prob-simclr")
    model = load_model(run, device="cpu")
    found = measure_uncertainty(model, split="test", limit=100, seed=0)
    assert found.retrieval is not None
    assert found.rejection is None
    paint(tmp_path / "photos/test", "a", "b", count=5, seed=11)
    found = measure_uncertainty(model, split="test", limit=100, seed=0)
    assert found.rejection is not None
    assert found.to_dict()["rejection"]["accuracy"] * 10 == pytest.approx(
        round(found.to_dict()["rejection"]["accuracy"] * 10)
    )


@pytest.mark.parametrize("sets", [{"dataset": 5}, {"dataset": None}])
def test_finetune_session__a_dataset_that_is_no_mapping(tmp_path: Path, sets: dict[str, Any]) -> None:
    from contrastive_cli.core.errors import UsageError

    paint(tmp_path / "photos", "a", "b", count=12)
    run = pretrain(tmp_path / "photos", tmp_path / "run")
    with pytest.raises(UsageError, match="dataset: a mapping is needed"):
        finetune_session(run, config=None, sets=sets, flags={}, out=tmp_path / "tuned", overwrite=False)


def test_prepare__what_cannot_be_drawn_by_class_leaves_no_run(tmp_path: Path) -> None:
    paint(tmp_path / "photos", "a", "b", count=12)
    changes = {"method__name": "supcon", "train__images_per_class": 3, "train__batch_size": 12}
    with pytest.raises(DataError, match="do not fill a batch"):
        pretrain(tmp_path / "photos", tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_prepare__views_of_the_images_own_size_need_no_encoder(tmp_path: Path) -> None:
    paint(tmp_path / "photos", "a", "b", count=12)
    changes = {"method__name": "autodecoder", "dataset__view_size": 16, "encoder__name": "none"}
    assert pretrain(tmp_path / "photos", tmp_path / "run", **changes).manifest().status == "finished"

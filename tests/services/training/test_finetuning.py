"""Part of the labels, finetuning and the supervised baseline, on the digits, in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.probes.label_subsets import label_subset
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.evaluation.finetuned import evaluate_finetuned
from contrastive_cli.services.evaluation.rows import Splits, open_splits
from contrastive_cli.services.evaluation.supervised_baseline import (
    num_steps,
    plan_supervised,
    supervised_rows,
    total_steps,
)
from contrastive_cli.services.inference.model import load_model
from contrastive_cli.services.training import finetuning
from contrastive_cli.services.training.finetuning import finetune_session
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import Session, resume_session, start_session
from contrastive_cli.services.training.setup import set_up_training

SMALL = {
    "encoder.width": 4,
    "encoder.embedding_dim": 32,
    "device": "cpu",
    "train.precision": "fp32",
    "train.evaluations": 0,
    "dataset.size": 16,
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pretrain(out: Path, **changes: Any) -> Run:
    flags = nested({**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}})
    session = start_session(resolve(config=None, sets={}, flags=flags).config, out=out, overwrite=False)
    return finish(session)


def finish(session: Session) -> Run:
    for _ in train_session(session):
        pass
    return session.run


def finetune(parent: Run, out: Path, flags: Mapping[str, Any]) -> Session:
    common = {"device": "cpu", "train.precision": "fp32", "train.evaluations": 0}
    return finetune_session(parent, config=None, sets={}, flags=nested({**common, **flags}), out=out, overwrite=False)


def file_hashes(run: Run) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was trained on all labels: as a parent, what finetuning can keep or lose is plain to see."""
    out = tmp_path_factory.mktemp("runs") / "parent"
    return pretrain(out, method__name="supervised", train__epochs=12, optim__lr=4e-3)


def test_supervised__learns_the_digits(supervised: Run) -> None:
    result, _ = evaluate_finetuned(supervised, device="cpu")
    assert result.accuracy > 0.95
    assert result.labels == 1438
    assert result.parent is None


def test_finetune__keeps_what_the_encoder_knows_and_names_its_parent(supervised: Run, tmp_path: Path) -> None:
    before = file_hashes(supervised)
    flags = {"train.label_fraction": 0.02, "train.epochs": 100, "optim.lr": 0.2}
    session = finetune(supervised, tmp_path / "tuned", flags)
    parent = load_model(supervised, device="cpu")
    start = encoder_of(session.setup.method).state_dict()
    assert all(torch.equal(value, start[key]) for key, value in encoder_of(parent.method).state_dict().items())
    run = finish(session)
    assert file_hashes(supervised) == before
    result, file = evaluate_finetuned(run, device="cpu")
    scratch = pretrain(
        tmp_path / "scratch",
        method__name="supervised",
        train__label_fraction=0.02,
        train__epochs=100,
        train__batch_size=128,
    )
    assert result.accuracy > evaluate_finetuned(scratch, device="cpu")[0].accuracy + 0.03
    manifest = run.manifest()
    assert manifest.parent is not None
    assert (manifest.parent.run, manifest.parent.checkpoint) == (supervised.name, parent.checkpoint)
    assert manifest.labels == result.labels == len(result.train_indices)
    written = json.loads(file.read_bytes())
    expected = label_subset(torch.from_numpy(session.setup.images.labels), fraction=0.02, seed=0)
    assert written["train_indices"] == expected.tolist()
    assert written["accuracy"] == result.accuracy
    again = finetune(run, tmp_path / "again", {"train.epochs": 1})  # a finetuned run may be a parent
    assert again.total_steps == 1438 // 128


def test_finetune__resumed_equals_uninterrupted(supervised: Run, tmp_path: Path) -> None:
    flags = {"train.label_fraction": 0.05, "train.epochs": 5}
    whole = finish(finetune(supervised, tmp_path / "whole", flags))
    finetune(supervised, tmp_path / "stopped", flags)  # killed before its first step
    resumed = finish(resume_session(Run(tmp_path / "stopped")))
    one, two = (load_model(run, device="cpu").method.state_dict() for run in (whole, resumed))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_finetune__length_and_batch_follow_the_labels(supervised: Run, tmp_path: Path) -> None:
    few = finetune(supervised, tmp_path / "few", {"train.label_fraction": 0.01})
    assert few.setup.config.batch_size == few.setup.num_samples < 128
    assert few.total_steps == finetuning.LEAST_STEPS
    many = finetune(supervised, tmp_path / "many", {"train.batch_size": 16})
    assert many.total_steps == 40 * (1438 // 16)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"encoder.width": 8}, "the encoder is that of parent"),
        ({"method.name": "simclr"}, "method supervised, not simclr"),
        ({"train.label_fraction": 0}, "label_fraction"),
    ],
)
def test_finetune__refuses(supervised: Run, tmp_path: Path, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        finetune(supervised, tmp_path / "none", flags)
    assert not (tmp_path / "none").exists()


def test_finetune__refuses_a_method_without_an_encoder(
    supervised: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = finetuning.load_method  # type: ignore[attr-defined]
    monkeypatch.setattr(finetuning, "load_method", lambda name: replace(original(name), has_encoder=False))
    with pytest.raises(UsageError, match="no encoder, so there is nothing to finetune"):
        finetune(supervised, tmp_path / "none", {})


@pytest.mark.parametrize(("fraction", "seed"), [(0.03, 0), (0.2, 1)])
def test_label_fraction__only_these_images_occur_in_batches(fraction: float, seed: int) -> None:
    flags = {**SMALL, "method.name": "supervised", "train.label_fraction": fraction, "train.epochs": 1, "seed": seed}
    setup = set_up_training(resolve(config=None, sets={}, flags=nested(flags)).config)
    labels = torch.from_numpy(setup.images.labels)
    expected = set(label_subset(labels, fraction=fraction, seed=seed).tolist())
    seen = {index for step in range(3 * setup.steps_per_epoch) for index in setup.sample(step)[1].tolist()}
    assert seen <= expected
    assert len(seen) > 0.9 * len(expected)
    assert setup.num_samples == len(expected)


def test_label_fraction__is_refused_where_nothing_is_learned_from_labels() -> None:
    flags = {**SMALL, "train.label_fraction": 0.5, "train.epochs": 1}
    with pytest.raises(UsageError, match="simclr does not"):
        set_up_training(resolve(config=None, sets={}, flags=nested(flags)).config)


def test_supervised_rows__use_the_shared_nested_subsets(supervised: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastive_cli.services.evaluation import supervised_baseline as baselines

    monkeypatch.setattr(baselines, "LEAST_STEPS", 30)
    model = load_model(supervised, device="cpu")
    opened = open_splits(model)
    few, more = (set(opened.subsets(fraction, seeds=1)[0].tolist()) for fraction in (0.02, 0.1))
    assert few < more
    splits = Splits(train=opened.train, test=opened.test, own=True)
    trainings = plan_supervised(model, splits, fractions=[0.1], seeds=2)
    assert [training.steps for training in trainings] == [num_steps(len(more))] * 2 == [30, 30]
    assert set(trainings[0].indices.tolist()) == more
    counts: list[tuple[int, int]] = []
    (row,) = supervised_rows(model, splits, trainings=trainings, progress=lambda *at: counts.append(at))
    assert counts[-1] == (total_steps(trainings),) * 2 == (30 * 5, 30 * 5)
    assert (row.features, row.seeds, row.labels) == ("supervised", 2, len(more))
    assert row.accuracy > 0.3
    assert np.mean(row.accuracies) == pytest.approx(row.accuracy)

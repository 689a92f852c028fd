"""Trainings that begin with weights: what they begin with, what stays frozen, and what is compared afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import ClrError, UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.engine.checkpoint import load_checkpoint
from contrastive_cli.models.encoders import EncoderConfig, build_fresh
from contrastive_cli.services.configuration import PretrainConfig, resolve
from contrastive_cli.services.evaluation.baselines import refuse_without_start, usual_baselines
from contrastive_cli.services.evaluation.linear_eval import frozen_rows
from contrastive_cli.services.evaluation.rows import open_splits
from contrastive_cli.services.importing.imported import imported_run
from contrastive_cli.services.inference.model import embed_pixels, load_model, start_model
from contrastive_cli.services.inference.splits import open_split, other_dataset
from contrastive_cli.services.training.finetuning import finetune_session
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import Session, resume_session, start_session

SMALL = {
    "device": "cpu",
    "train.precision": "fp32",
    "train.evaluations": 0,
    "train.batch_size": 256,
    "dataset.size": 16,
}


def write_weights(folder: Path, *, channels: int = 3, seed: int = 5) -> Path:
    """A small encoder for images of some channels, from elsewhere."""
    torch.manual_seed(seed)
    encoder = build_fresh(EncoderConfig(name="resnet9", width=4, embedding_dim=16), channels=channels, size=16)
    file = folder / "w.safetensors"
    save_file(encoder.state_dict(), file)
    return file


def configure(**changes: Any) -> PretrainConfig:
    """A small training on the digits."""
    flags = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    return resolve(config=None, sets={}, flags=nested({k: v for k, v in flags.items() if v is not None})).config


def start(out: Path, **changes: Any) -> Session:
    """Begin with such a training."""
    return start_session(configure(**changes), out=out, overwrite=False)


def finish(session: Session) -> Run:
    """Train to the end."""
    for _ in train_session(session):
        pass
    return session.run


def encoder_state(run: Run) -> dict[str, Tensor]:
    """The encoder in the newest checkpoint."""
    state = load_checkpoint(run).state["method"]
    return {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_start_session__begins_with_the_weights_of_a_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    file = write_weights(tmp_path)
    session = start(tmp_path / "run", encoder__name="resnet9", encoder__weights=str(file), train__epochs=1)
    assert same(encoder_state(session.run), load_file(file))
    manifest = session.run.manifest()
    assert manifest.weights is not None
    assert (manifest.weights.source, manifest.weights.left_over) == (str(file), 0)
    assert manifest.mean == (0.485, 0.456, 0.406)  # of the encoder, not of the gray digits
    fresh = start(tmp_path / "fresh", encoder__name="resnet9", train__epochs=1)
    assert session.setup.config.optim.lr == pytest.approx(0.1 * fresh.setup.config.optim.lr)
    assert configure(encoder__name="resnet9", encoder__weights=str(file), optim__lr=0.5).optim.lr == 0.5


def test_train_session__frozen_epochs_leave_the_encoder_bit_for_bit(tmp_path: Path) -> None:
    file = write_weights(tmp_path)
    given = {"encoder__name": "resnet9", "encoder__weights": str(file), "train__freeze_epochs": 1}
    held = start(tmp_path / "held", **given, train__epochs=1)
    before, heads = encoder_state(held.run), load_checkpoint(held.run).state["method"]
    run = finish(held)
    assert same(encoder_state(run), before)
    after = load_checkpoint(run).state["method"]
    assert any(not torch.equal(after[name], value) for name, value in heads.items() if name.startswith("projector."))
    assert not same(encoder_state(finish(start(tmp_path / "free", **given, train__epochs=2))), before)


@pytest.mark.parametrize("stop", [2, 5, 6])
def test_resume_session__of_frozen_epochs_equals_one_training(stop: int, tmp_path: Path) -> None:
    file = write_weights(tmp_path)
    given = {"encoder__name": "resnet9", "encoder__weights": str(file), "train__freeze_epochs": 1, "train__epochs": 2}
    whole = finish(start(tmp_path / "whole", **given))  # 10 steps, 5 of them frozen
    session = start(tmp_path / "parts", **given)
    session.setup.config.train.__dict__["save_every"] = 1e-9  # a checkpoint after every step
    for status in train_session(session):
        if status.step == stop:
            break
    file.unlink()  # the run holds what it needs
    assert load_checkpoint(session.run).state["step"] == stop
    resumed = finish(resume_session(Run(tmp_path / "parts")))
    states = [load_checkpoint(run).state["method"] for run in (whole, resumed)]
    assert same(*states)


def test_start_from_weights__of_a_run(tmp_path: Path) -> None:
    first = finish(start(tmp_path / "first", encoder__name="resnet9", encoder__width=4, train__epochs=1))
    session = start(tmp_path / "second", encoder__weights=str(first.path), dataset__size=None, train__epochs=1)
    assert same(encoder_state(session.run), encoder_state(first))
    old, new = first.manifest(), session.run.manifest()
    assert (new.size, new.mean, new.std, new.encoder) == (16, old.mean, old.std, "resnet9")
    run = finish(session)
    model = load_model(run, device="cpu")
    assert usual_baselines(model) == ["random", "pixels", "start"]
    images = open_split(model, "test").images[:20]
    came, trained = (embed_pixels(one, images) for one in (start_model(model), model))
    assert np.array_equal(came, embed_pixels(load_model(first, device="cpu"), images))
    assert not np.allclose(came, trained, rtol=1e-3)
    rows = list(frozen_rows(model, open_splits(model), heads=["knn"], fractions=[1.0], baselines=["start"], seeds=1))
    assert [row.features for row in rows] == ["pretrained", "pretrained whitened", "start", "start whitened"]
    refuse_without_start(load_model(first, device="cpu"), ["random"])
    with pytest.raises(UsageError, match="began with fresh weights"):
        refuse_without_start(load_model(first, device="cpu"), ["start"])


def test_usual_baselines__without_the_file_it_began_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    file = write_weights(tmp_path)
    run = finish(start(tmp_path / "run", encoder__name="resnet9", encoder__weights=str(file), train__epochs=1))
    model = load_model(run, device="cpu")
    file.unlink()
    assert usual_baselines(model) == ["random", "pixels"]
    assert "no row start: there are no weights" in caplog.text


def test_resolve__size_of_a_folder_is_the_encoders_own(tmp_path: Path) -> None:
    folder = {"dataset__name": "folder", "dataset__data_dir": str(tmp_path), "dataset__size": None}
    given = {"encoder__name": "resnet18", "encoder__weights": "random"}
    found = configure(**given, **folder)
    assert found.dataset.size == 224
    framing = found.preprocess.framing(224)
    assert framing is not None
    assert (framing.resize, framing.interpolation) == (256, "bilinear")
    assert found.encoder.stem == "imagenet"
    smaller = configure(**given, **{**folder, "dataset__size": 112})
    assert smaller.preprocess.resize == 128
    assert configure(**given, dataset__size=None).dataset.size == 32  # the digits are small, and shown whole
    assert configure(**given).preprocess.resize is None
    assert configure(encoder__name="resnet18", **folder).dataset.size == 48  # of the preset for folders


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train__freeze_epochs": 1}, "it has fresh weights"),
        ({"method__name": "autodecoder", "encoder__name": "resnet18", "encoder__weights": "random"}, "no encoder"),
        ({"encoder__weights": "w.safetensors"}, "do not say which encoder"),
        ({"encoder__name": "resnet18", "encoder__weights": "w.safetensors"}, "does not hold all of resnet18"),
        ({"encoder__name": "resnet9", "encoder__weights": "w.safetensors", "preprocess__resize": 8}, "below the size"),
    ],
)
def test_start_session__refuses(
    changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_weights(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClrError) as caught:
        start(tmp_path / "run", **changes)
    assert said in caught.value.message
    assert not (tmp_path / "run").exists()


def paint_folder(folder: Path) -> None:
    """Two classes of pictures in color: light and dark."""
    random = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(low, low + 120, (24, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")


def test_finetune_session__of_an_imported_encoder(tmp_path: Path) -> None:
    paint_folder(tmp_path / "photos")
    parent = Run(imported_run("resnet9", str(write_weights(tmp_path)), runs_dir=tmp_path / "runs"))
    flags = {"device": "cpu", "train.precision": "fp32", "train.epochs": 1, "train.evaluations": 0}
    flags |= {"dataset.name": "folder", "dataset.data_dir": str(tmp_path / "photos")}
    session = finetune_session(
        parent, config=None, sets={}, flags=nested(flags), out=tmp_path / "tuned", overwrite=False
    )
    manifest = finish(session).manifest()
    assert manifest.parent is not None
    assert manifest.parent.run == parent.name
    assert manifest.mean == parent.manifest().mean
    assert manifest.classes == ("dark", "light")
    with pytest.raises(UsageError, match="no dataset of its own"):
        finetune_session(parent, config=None, sets={}, flags={}, out=tmp_path / "other", overwrite=False)


def test_frozen_rows__of_an_imported_encoder_on_gray_digits(tmp_path: Path) -> None:
    parent = Run(imported_run("resnet9", str(write_weights(tmp_path)), runs_dir=tmp_path / "runs"))
    model = load_model(parent, device="cpu")
    digits = other_dataset(model, name="digits", data_dir=None, download=False, max_bad=None)
    splits = open_splits(model, dataset=digits)
    rows = list(frozen_rows(model, splits, heads=["knn"], fractions=[1.0], baselines=usual_baselines(model), seeds=1))
    expected = ["pretrained", "pretrained whitened", "random", "random whitened", "pixels"]
    assert [row.features for row in rows] == expected
    assert rows[0].accuracy > 0.3  # ten classes: random convolutions tell digits apart


def test_resolve__weights_of_a_run_bring_the_sizes_of_its_views(tmp_path: Path) -> None:
    sizes = {"dataset__view_size": 12, "dataset__stored_size": 24, "train__epochs": 0.2, "encoder__width": 4}
    run = finish(start(tmp_path / "run", **sizes))
    again = configure(dataset__size=None, encoder__weights=str(run.path)).dataset
    assert (again.size, again.view_size, again.stored_size) == (16, 12, 24)
    other = configure(dataset__size=None, dataset__view_size=14, encoder__weights=str(run.path)).dataset
    assert (other.size, other.view_size, other.stored_size) == (16, 14, 24)
    larger = configure(dataset__size=32, encoder__weights=str(run.path)).dataset
    assert (larger.size, larger.view_size, larger.stored_size) == (32, None, None)

"""Which images an evaluation fits on, chooses on and is judged on, told by images whose test split lies.

The classes of the training split are bright above or below; in the test split their names are swapped. Whatever learns
from the training images and is judged on the test images is wrong everywhere; a part of either that is taken from the
other split is right there, and shows.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import SMALL_RUN
from torch import Tensor, nn

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import DataError, TrainingError
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import Method
from contrastive_cli.embeddings.probes.knn_vote import knn_vote
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.evaluation import supervised_baseline
from contrastive_cli.services.evaluation.finetuned import evaluate_finetuned
from contrastive_cli.services.evaluation.linear_eval import frozen_rows, weights_sha256
from contrastive_cli.services.evaluation.rows import Row, Splits, open_splits
from contrastive_cli.services.evaluation.supervised_baseline import plan_supervised, supervised_rows
from contrastive_cli.services.evaluation.uncertainty import measure_uncertainty
from contrastive_cli.services.inference.classes import predict_classes
from contrastive_cli.services.inference.model import Model, embed_pixels, load_model, random_model
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.services.training.finetuning import finetune_session
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import start_session

SIDE = 16
SETTINGS = {**SMALL_RUN, "dataset.name": "folder", "dataset.size": SIDE, "train.batch_size": 8, "views.recipe": "none"}


def paint(folder: Path, *, bright: str, count: int, seed: int) -> None:
    """Noise pictures whose upper or lower half is bright."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    levels = np.where((np.arange(SIDE) < SIDE // 2) == (bright == "above"), 220, 40)[:, None, None]
    for number in range(count):
        pixels = np.clip(generator.normal(levels, 20, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}-{number:02d}.png")


def pretrain(photos: Path, out: Path, **more: Any) -> Run:
    changes = {key.replace("__", "."): value for key, value in more.items()}
    flags = nested({**SETTINGS, "dataset.data_dir": str(photos), "train.epochs": 1, **changes})
    session = start_session(resolve(config=None, sets={}, flags=flags).config, out=out, overwrite=False)
    for _ in train_session(session):
        pass
    return session.run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def photos(place: Path) -> Path:
    for number, (name, bright, swapped) in enumerate((("a", "above", "below"), ("b", "below", "above"))):
        paint(place / "photos/train" / name, bright=bright, count=12, seed=number)
        paint(place / "photos/test" / name, bright=swapped, count=8, seed=10 + number)
    return place / "photos"


@pytest.fixture(scope="module")
def run(photos: Path, place: Path) -> Run:
    return pretrain(photos, place / "run")


@pytest.fixture
def model(run: Run) -> Model:
    return load_model(run, device="cpu")


def rows_of(model: Model, *heads: str, baselines: tuple[str, ...] = (), fraction: float = 1.0) -> list[Row]:
    found = frozen_rows(model, open_splits(model), heads=heads, fractions=(fraction,), baselines=baselines, seeds=1)
    return list(found)


@pytest.mark.parametrize("head", ["linear", "mlp", "knn"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_frozen_rows__learn_from_train_and_are_judged_on_test(head: str, fraction: float, model: Model) -> None:
    baselines = () if head == "mlp" else ("pixels",)  # of so many pixels it takes long
    for row in rows_of(model, head, baselines=baselines, fraction=fraction):
        assert row.accuracy == 0, row.features
        assert row.labels == 24 * fraction


def test_open_splits__are_train_and_test(model: Model, photos: Path) -> None:
    splits = open_splits(model)
    assert (splits.train.split, splits.test.split) == ("train", "test")
    assert (splits.train.num_samples, splits.test.num_samples) == (24, 16)
    assert splits.train.fingerprint == model.manifest.dataset.fingerprint != splits.test.fingerprint


def test_frozen_rows__the_random_baseline_has_weights_of_its_own(model: Model) -> None:
    splits = open_splits(model)
    fresh = random_model(model, seed=model.manifest.seed)
    assert weights_sha256(fresh) != weights_sha256(model)
    vectors = [torch.from_numpy(embed_pixels(fresh, images.images)) for images in (splits.train, splits.test)]
    seen: dict[str, Tensor] = {}

    def noted(train: Tensor, labels: Tensor, queries: Tensor, **options: Any) -> Tensor:
        seen[f"{len(seen)}"] = queries
        return knn_vote(train, labels, queries, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contrastive_cli.services.evaluation.linear_eval.knn_vote", noted)
        rows = rows_of(model, "knn", baselines=("random",))
    assert [row.features for row in rows] == ["pretrained", "random"]
    torch.testing.assert_close(seen["1"], vectors[1])
    assert not torch.allclose(seen["0"], seen["1"], atol=1e-3)


class Drifting(nn.Module):
    """Embeds as the method does, and moves a weight of it each time."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def embed(self, images: Tensor) -> Tensor:
        embedded: Tensor = self.method.embed(images)
        with torch.no_grad():
            next(iter(self.method.parameters())).add_(1e-3)
        return embedded


def test_frozen_rows__an_encoder_that_moved_is_an_error(model: Model) -> None:
    drifting = replace(model, embedder=Drifting(model.method))  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="the encoder changed while it was evaluated"):
        rows_of(drifting, "knn")


def test_frozen_rows__draw_nothing_from_the_generator_and_leave_the_mode(model: Model) -> None:
    before = torch.get_rng_state()
    assert not model.method.training  # type: ignore[attr-defined]
    rows_of(model, "linear", "mlp", "knn")
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in model.method.modules())


def test_measure_uncertainty__its_probe_learns_from_train(photos: Path, place: Path) -> None:
    model = load_model(pretrain(photos, place / "unsure", method__name="prob-simclr"), device="cpu")
    found = measure_uncertainty(model, split="test", limit=100, seed=0)
    assert found.rejection is not None
    assert found.rejection[0].accuracy[-1] == 0
    assert found.images.fingerprint == open_split(model, "test").fingerprint


def test_evaluate_finetuned__is_judged_on_test(run: Run, model: Model, place: Path) -> None:
    flags = nested({"device": "cpu", "train.precision": "fp32", "train.evaluations": 0, "train.epochs": 30})
    session = finetune_session(run, config=None, sets={}, flags=flags, out=place / "tuned", overwrite=False)
    for _ in train_session(session):
        pass
    found, _ = evaluate_finetuned(session.run, device="cpu")
    splits = open_splits(model)
    assert found.accuracy == 0
    assert found.fingerprints == [splits.train.fingerprint, splits.test.fingerprint]
    assert (found.test_images, found.train_split, found.labels) == (16, "train", 24)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised_baseline, "LEAST_STEPS", 40)


def test_supervised_rows__learn_from_train_and_are_judged_on_test(model: Model, short: None) -> None:
    splits = open_splits(model)
    trainings = plan_supervised(model, splits, fractions=(1.0,), seeds=1)
    (row,) = supervised_rows(model, splits, trainings=trainings)
    assert row.accuracy == 0
    assert row.labels == 24


def test_supervised_rows__the_optimizer_is_chosen_on_images_that_it_was_not_fitted_on(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[list[int]] = []
    judged: list[np.ndarray] = []
    train = supervised_baseline._train

    def noted_train(model: Model, images: Any, training: Any, **options: Any) -> Any:
        fitted.append(training.indices.tolist())
        return train(model, images, replace(training, steps=1), **options)

    def noted_predict(method: Method, pixels: Any, **options: Any) -> Any:
        judged.append(np.asarray(pixels))
        return predict_classes(method, pixels, **options)

    monkeypatch.setattr(supervised_baseline, "_train", noted_train)
    monkeypatch.setattr(supervised_baseline, "predict_classes", noted_predict)
    splits = open_splits(model)
    trainings = plan_supervised(model, splits, fractions=(0.5,), seeds=2)
    list(supervised_rows(model, splits, trainings=trainings))
    choices = len(supervised_baseline.CANDIDATES)
    labeled = [training.indices.tolist() for training in trainings]
    assert fitted[choices:] == labeled  # then on all labels of each seed
    for kept, pixels in zip(fitted[:choices], judged[:choices], strict=True):
        held_out = sorted(set(labeled[0]) - set(kept))
        assert set(kept) < set(labeled[0])
        assert len(held_out) >= 2
        np.testing.assert_array_equal(pixels, splits.train.images[held_out])
    for pixels in judged[choices:]:
        np.testing.assert_array_equal(pixels, splits.test.images)


def test_supervised_rows__the_optimizer_that_was_best_trains_the_baseline(
    model: Model, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = supervised_baseline.CANDIDATES[0]
    hopeless = {"name": "sgd", "lr": 1e6}  # ends in weights that are no numbers
    used: list[Any] = []
    train = supervised_baseline._train

    def noted(model: Model, images: Any, training: Any, *, optim: Any, count: Any) -> Any:
        used.append(optim)
        return train(model, images, training, optim=optim, count=count)

    monkeypatch.setattr(supervised_baseline, "_train", noted)
    monkeypatch.setattr(supervised_baseline, "CANDIDATES", (hopeless, good, hopeless))
    splits = open_splits(model)
    list(supervised_rows(model, splits, trainings=plan_supervised(model, splits, fractions=(1.0,), seeds=1)))
    assert used == [hopeless, good, hopeless, good]


def test_finetune_session__of_a_run_whose_drawn_split_has_moved(place: Path) -> None:
    """The encoder would be tested on images that it was trained on."""
    for number, (name, bright) in enumerate((("a", "above"), ("b", "below"))):
        paint(place / "loose" / name, bright=bright, count=20, seed=20 + number)
    run = pretrain(place / "loose", place / "parent")
    flags = nested({"device": "cpu", "train.precision": "fp32", "train.epochs": 1})
    common: dict[str, Any] = {"config": None, "sets": {}, "flags": flags, "overwrite": False}
    finetune_session(run, out=place / "first", **common)
    paint(place / "loose/a", bright="above", count=3, seed=30)
    with pytest.raises(DataError, match="its test split moved"):
        finetune_session(run, out=place / "second", **common)
    assert not (place / "second").exists()


def test_subsets__of_two_seeds_differ_and_hold_every_class(model: Model) -> None:
    splits: Splits = open_splits(model)
    labels = splits.train.labels
    drawn = [tuple(chosen.tolist()) for chosen in splits.subsets(0.5, seeds=3)]
    assert len(set(drawn)) == 3
    for chosen in drawn:
        assert np.bincount(labels[list(chosen)]).tolist() == [6, 6]


def test_save_evaluation__is_of_the_test_split(model: Model) -> None:
    from contrastive_cli.services.evaluation.linear_eval import save_evaluation, summarize_evaluation

    splits = open_splits(model)
    rows = rows_of(model, "knn")
    file = save_evaluation(model.run, summarize_evaluation(model, splits, rows=rows, fractions=(1.0,), seeds=1), splits)
    written = json.loads(file.read_bytes())
    assert written["fingerprints"] == [splits.train.fingerprint, splits.test.fingerprint]
    assert (written["train_images"], written["test_images"]) == (24, 16)
    assert written["checkpoint"] == model.checkpoint

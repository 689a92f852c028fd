"""The number of processes says who computes which: views, losses, metrics and weights are those of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed.process_pool import Pool
from distributed.short_trainings import (
    NO_ENCODER,
    SMALL,
    keeps_hidden_state,
    train_from_the_loop,
    train_some,
    views_digest,
)

from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.embeddings.files import NeighborsFile, write_neighbors

METHODS: dict[str, dict[str, Any]] = {
    "simclr": {**SMALL},
    "simclr-three-views-lars-clipped": {
        **SMALL,
        "method.num_views": 3,
        "optim.name": "lars",
        "optim.clip_gradient": 0.5,
    },
    "simclr-bf16": {**SMALL, "train.precision": "bf16"},
    "simclr-muon": {**SMALL, "optim.name": "muon", "optim.momentum": 0.95},
    "supcon": {**SMALL, "method.name": "supcon", "train.images_per_class": 3},
    "prob-simclr": {**SMALL, "method.name": "prob-simclr"},
    "prob-simclr-draws": {
        **SMALL,
        "method.name": "prob-simclr",
        "method.loss": "mc-infonce",
        "method.learn_temperature": True,
    },
    "byol": {**SMALL, "method.name": "byol"},
    "byol-neighbor": {**SMALL, "method.name": "byol", "method.positives": "neighbor"},
    "byol-mix": {**SMALL, "method.name": "byol", "method.positives": "mix"},
    "byol-fastsiam": {**SMALL, "method.name": "byol", "method.targets": "views", "method.num_views": 3},
    "regularized": {**SMALL, "method.name": "regularized", "method.slices": 16},
    "moco-queue": {**SMALL, "method.name": "moco", "method.version": "v2+", "method.queue_size": 60},
    "nnclr": {**SMALL, "method.name": "nnclr", "method.queue_size": 60},
    "swav": {**SMALL, "dataset.size": 16, "method.name": "swav", "method.queue_size": 20, "method.queue_start": 0.0},
    "dino": {**SMALL, "dataset.size": 16, "method.name": "dino"},
    "autoencoder-noise": {**SMALL, "method.name": "autoencoder", "method.noise": 0.3},
    "vae": {**SMALL, "method.name": "vae"},
    "autodecoder": {**NO_ENCODER, "method.name": "autodecoder"},
    "moco-v3": {**SMALL, "method.name": "moco", "method.version": "v3"},
    "supervised": {**SMALL, "method.name": "supervised", "train.label_fraction": 0.5},
}
VARIANTS = {  # of what others show
    "simclr-muon",
    "prob-simclr",
    "byol-neighbor",
    "byol-fastsiam",
    "moco-v3",
    "dino",
    "vae",
    "supervised",
    "autoencoder-noise",
}
# Adam divides by the size of a gradient, so that what is rounding alone becomes a step: not for a bound on rounding.
GENTLE = {"optim.name": "sgd", "optim.lr": 0.003, "train.batch_size": 48, "train.micro_batch_size": 8}


@pytest.fixture(scope="module")
def neighbors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn neighbors of every digit."""
    digits = open_dataset("digits", split="train", data_dir=None, size=8)
    count = digits.num_samples
    indices = (np.arange(count)[:, None] + np.random.default_rng(0).integers(1, count, (count, 3))) % count
    path = tmp_path_factory.mktemp("neighbors") / "neighbors.pkl"
    dataset = {"name": digits.name, "split": digits.split, "fingerprint": digits.fingerprint}
    distances = np.zeros(indices.shape, np.float32)
    write_neighbors(path, NeighborsFile(indices=indices, distances=distances, metric="cosine", dataset=dataset))
    return path


def settings_of(name: str, neighbors: Path) -> dict[str, Any]:
    more = {"neighbors": str(neighbors)} if name in ("byol-neighbor", "byol-mix") else {}
    return {**METHODS[name], **more}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in VARIANTS else name for name in METHODS],
)
def test_train_steps__three_processes_give_the_bits_of_one(pool: Pool, name: str, neighbors: Path) -> None:
    settings = settings_of(name, neighbors)
    (one,) = pool.run(train_some, 1, settings=settings, steps=2)
    for found in pool.run(train_some, 3, settings={**settings, "train.reduction": "ordered"}, steps=2):
        assert found["lines"] == one["lines"]
        assert found["digest"] == one["digest"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [name for name in METHODS if name != "simclr-bf16"])
def test_train_steps__any_number_of_processes_gives_the_bits_of_one(
    pool: Pool, name: str, precision: str, neighbors: Path
) -> None:
    settings = {**settings_of(name, neighbors), "train.precision": precision}
    (one,) = pool.run(train_some, 1, settings=settings, steps=20)
    for size in (1, 2, 3):
        for found in pool.run(train_some, size, settings={**settings, "train.reduction": "ordered"}, steps=20):
            assert found["lines"] == one["lines"]
            assert found["digest"] == one["digest"]


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_train_steps__fast_mode_is_equal_up_to_rounding(pool: Pool, size: int) -> None:
    settings = {**SMALL, **GENTLE}
    (one,) = pool.run(train_some, 1, settings=settings, steps=6)
    (found, *_) = pool.run(train_some, size, settings=settings, steps=6)
    np.testing.assert_allclose(
        [line[0] for line in found["lines"]], [line[0] for line in one["lines"]], rtol=1e-5, atol=1e-5
    )
    for name, weights in one["weights"].items():
        np.testing.assert_allclose(found["weights"][name], weights, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_train_steps__shared_batch_norm_is_that_of_larger_micro_batches(pool: Pool, method: str) -> None:
    settings = {**SMALL, **GENTLE, "method.name": method}
    (one,) = pool.run(train_some, 1, settings={**settings, "train.micro_batch_size": 16}, steps=3)
    (other,) = pool.run(train_some, 1, settings=settings, steps=3)
    shared = {**settings, "train.batch_norm_processes": 2}
    for found in pool.run(train_some, 2, settings=shared, steps=3):
        for name, weights in one["weights"].items():
            np.testing.assert_allclose(found["weights"][name], weights, rtol=1e-4, atol=1e-5, err_msg=name)
    assert any(
        not np.allclose(other["weights"][name], one["weights"][name], rtol=1e-3, atol=1e-4) for name in other["weights"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name != "simclr-bf16"])
def test_train_steps__fast_mode_of_every_method(pool: Pool, name: str, neighbors: Path) -> None:
    """In one step rounding has had no time to grow."""
    settings = {**settings_of(name, neighbors), **GENTLE}
    if name == "supcon":  # whose ten classes are to fill the batch
        settings["train.images_per_class"] = 5
    (before,) = pool.run(train_some, 1, settings=settings, steps=0)
    (one,) = pool.run(train_some, 1, settings=settings, steps=1)
    moved = [np.abs(one["weights"][key] - weights).max() for key, weights in before["weights"].items()]
    assert max(moved) > 1e-5
    for size in (2, 3):
        (found, *_) = pool.run(train_some, size, settings=settings, steps=1)
        for key, weights in one["weights"].items():
            np.testing.assert_allclose(found["weights"][key], weights, rtol=1e-6, atol=1e-7, err_msg=key)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train.batch_norm_processes": 3}, "train.batch_norm_processes is 3, but this is a training in 2 processes"),
        ({"train.batch_norm_processes": 2, "train.batch_size": 25}, "in 5 micro-batches does not give each of 2"),
    ],
)
def test_fit_pieces__batch_norm_is_shared_by_all_or_none(
    pool: Pool, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    for message in pool.run(train_from_the_loop, 2, settings={**SMALL, **settings}, folder=str(tmp_path / "run")):
        assert said in message
    assert not (tmp_path / "run").exists()


def test_train_steps__another_order_of_the_sum_would_be_noticed(pool: Pool) -> None:
    settings = {**SMALL, **GENTLE}
    (one,) = pool.run(train_some, 1, settings=settings, steps=1)
    (fast, *_) = pool.run(train_some, 2, settings=settings, steps=1)
    assert fast["digest"] != one["digest"]


def test_batches__are_the_same_set_whatever_the_number(pool: Pool) -> None:
    last = 1438 // 26 - 1  # of the first epoch, whose last 8 images are left out
    digests = [pool.run(views_digest, size, settings=SMALL, step=last) for size in (1, 2, 3)]
    assert len({digest for each in digests for digest in each}) == 1


def test_refuse_other_state__a_method_that_hides_state_is_told(pool: Pool) -> None:
    for said in pool.run(keeps_hidden_state, 2, what="weights"):
        assert "process 1 has other weights than process 0" in said
    for said in pool.run(keeps_hidden_state, 2, what="random"):
        assert "process 1 has drawn other random numbers than process 0" in said
    for said in pool.run(keeps_hidden_state, 2, what="nothing"):
        assert said == ""

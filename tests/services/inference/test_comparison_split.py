"""The way of comparing is chosen on people of the validation split, never on those of the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import SMALL_RUN

from contrastive_cli.core.config import nested
from contrastive_cli.core.runs import Run
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.scan import split_by_name
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.inference.comparison import Comparison, choose_comparison
from contrastive_cli.services.inference.model import Model, load_model
from contrastive_cli.services.inference.similarity import reference_pairs
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import start_session

SIDE = 16


def people(part: str, count: int) -> list[str]:
    """Names that belong to a part of the data set."""
    names = (f"Person_{number}" for number in range(1000))
    return [name for name in names if split_by_name(name, seed=0) == part][:count]


def paint(faces: Path, name: str, *, pictures: int, seed: int) -> None:
    folder = faces / name
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
    for picture in range(pictures):
        pixels = np.clip(blocks + generator.normal(0, 60, blocks.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{picture}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of people of whom those of the test split have one picture each: no pair of them can be the same."""
    place = tmp_path_factory.mktemp("faces")
    for part, pictures in (("train", 3), ("val", 3), ("test", 1)):
        for seed, name in enumerate(people(part, 6)):
            paint(place / "faces", name, pictures=pictures, seed=seed)
    flags = {
        **SMALL_RUN,
        "dataset.name": "lfw",
        "dataset.data_dir": str(place / "faces"),
        "dataset.size": SIDE,
        "train.batch_size": 6,
        "train.epochs": 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLR_CACHE", str(place / "cache"))
        config = resolve(config=None, sets={}, flags=nested(flags)).config
        session = start_session(config, out=place / "run", overwrite=False)
        for _ in train_session(session):
            pass
        yield session.run


def test_choose_comparison__opens_the_validation_people_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def noted(model: Model, split: str, **options: Any) -> ImageSet:
        images = open_split(model, split, **options)
        opened.append(images.split)
        assert {path.split("/")[0] for path in images.paths} == set(people("val", 6))
        return images

    monkeypatch.setattr("contrastive_cli.services.inference.comparison.open_split", noted)
    _, areas = choose_comparison(load_model(run, device="cpu"))
    assert opened == ["val"]
    assert set(areas) == {"h", "h-mirror", "h-crops", "z", "z-mirror", "z-crops"}


def test_record_comparison__the_best_on_validation_is_what_the_run_remembers(run: Run) -> None:
    chosen, areas = choose_comparison(load_model(run, device="cpu"))
    assert areas[chosen.name] == max(areas.values()) > min(areas.values())
    manifest = run.manifest()
    assert (manifest.similarity_layer, manifest.similarity_average) == (chosen.layer, chosen.average)
    recorded = json.loads((run.path / "eval" / "similarity-layer.json").read_bytes())
    assert recorded["validation_auc"] == areas


def test_reference_pairs__are_of_people_who_were_not_trained_on(run: Run) -> None:
    split, quantiles = reference_pairs(load_model(run, device="cpu"), Comparison())
    assert split == "val"
    assert set(quantiles) == {"all", "same", "different"}

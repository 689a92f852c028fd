"""From folders of people to a verdict on people that were not in training, as typed in the README."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from clr_process import Clr
from PIL import Image

PEOPLE = 40
PICTURES = 3


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a person: blocks of color that are the person's own, under noise."""
    folder = tmp_path_factory.mktemp("faces")
    generator = np.random.default_rng(0)
    for number in range(PEOPLE):
        blocks = generator.integers(0, 256, (4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
        person = folder / f"Person_{number}"
        person.mkdir()
        for picture in range(PICTURES):
            pixels = np.clip(blocks + generator.normal(0, 60, blocks.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(person / f"{picture}.png")
    return folder


def test_faces__pretrain_pairs_similarity(clr: Clr, faces: Path, tmp_path: Path) -> None:
    small = ["--device", "cpu", "--batch-size", "16", "--set", "encoder.width=4", "--set", "dataset.size=16"]
    trained = clr(
        *("pretrain", "--method", "supcon", "--dataset", "lfw", "--data-dir", faces, "--epochs", "6", *small),
        *("--set", "train.images_per_class=3", "--out", "runs/faces"),
        cwd=tmp_path,
    )
    assert trained.code == 0, trained.err
    manifest = json.loads((tmp_path / "runs/faces/manifest.json").read_bytes())
    chosen = json.loads((tmp_path / "runs/faces/eval/similarity-layer.json").read_bytes())
    areas = chosen["validation_auc"]
    parts = [chosen["layer"], chosen["average"], chosen["space"]]
    best = "-".join(part for part in parts if part not in ("none", "raw"))
    raw = {"h", "z", "h-mirror", "z-mirror", "h-crops", "z-crops"}
    measured = (tmp_path / "runs/faces/space.safetensors").is_file()
    assert areas.keys() == (raw | {f"{name}-whitened" for name in raw} if measured else raw)
    assert best == max(areas, key=areas.get)
    assert (manifest["similarity_layer"], manifest["similarity_average"]) == (chosen["layer"], chosen["average"])
    report = clr("report", "--json", cwd=tmp_path)
    assert report.json["verdicts"] == [
        "The classes of the test images were not trained on, and no pairs of them were verified yet."
    ]
    (pairs,) = {one["command"] for one in report.json["missing"]}
    for line in pairs.split(" && "):  # as it is suggested
        assert clr(*shlex.split(line)[1:], cwd=tmp_path).code == 0
    verified = clr("report", "--json", cwd=tmp_path)
    assert verified.json["verdicts"][0].startswith("Of ")
    assert "pairs (pairs)" in verified.json["verdicts"][0]
    assert verified.json["missing"] == []
    (tmp_path / "pairs.csv").unlink()
    saved = clr("datasets", "lfw", "--data-dir", faces, "--save-pairs", "pairs.csv", "--count", "24", cwd=tmp_path)
    assert saved.code == 0, saved.err
    judged = clr("similarity", "--pairs", "pairs.csv", "--root", faces, "--json", cwd=tmp_path)
    assert judged.code == 0, judged.err
    assert judged.json["auc"] > 0.8
    assert judged.json["eer"] < 0.3
    assert judged.json["accuracy"] > 0.6
    assert (judged.json["layer"], judged.json["average"]) == (chosen["layer"], chosen["average"])
    assert judged.json["pairs"] == 24
    assert -1 <= judged.json["threshold"] <= 1
    with Image.open(tmp_path / judged.json["figure"]) as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    refused = clr("linear-eval", cwd=tmp_path)
    assert refused.code == 3
    assert "no class of the test split of lfw occurs in train" in refused.err
    assert "similarity --pairs" in refused.err
    pair = [faces / "Person_1" / f"{number}.png" for number in range(2)]
    two = clr("similarity", *pair, "--layer", "h", "--json", cwd=tmp_path)
    assert two.code == 0, two.err
    assert two.json["reference"] == "val"
    assert two.json["layer"] == "h"
    assert two.json["percentiles"].keys() == {"all", "same", "different"}
    with Image.open(pair[0]) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirror.png")
    cosines = [
        clr("similarity", pair[0], "mirror.png", "--average", average, "--json", cwd=tmp_path).json["similarity"]
        for average in ("mirror", "crops", "none")
    ]
    assert cosines[:2] == pytest.approx([1, 1], abs=1e-5)
    assert cosines[2] < 1 - 1e-4

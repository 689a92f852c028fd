"""Encoders that were trained elsewhere, as typed: embedding, looking up, comparing, training on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clr_process import Clr
from PIL import Image
from safetensors.torch import save_file

from contrastive_cli.models.encoders import EncoderConfig, build_fresh


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.place,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, a small encoder from elsewhere, and one that would run code."""
    place = tmp_path_factory.mktemp("foreign")
    (place / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = np.kron(random.integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
        Image.fromarray(pixels).save(place / "photos" / f"{number:02d}.png")
    torch.manual_seed(0)
    encoder = build_fresh(EncoderConfig(name="resnet9", width=4, embedding_dim=16), channels=3, size=32)
    save_file(encoder.state_dict(), place / "small.safetensors")
    torch.save({"state_dict": encoder.state_dict(), "args": Evil(place / "ran")}, place / "evil.pth")
    return place


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["embed", "photos", "--encoder", "resnet9", "--weights", "evil.pth"], 4, "asks for posix.mkdir"),
        (["embed", "photos", "--encoder", "resnet50"], 2, "add --weights"),
        (["embed", "photos", "--weights", "small.safetensors"], 2, "add --encoder NAME"),
        (["embed", "photos", "--encoder", "resnet9", "--weights", "random", "--run", "x"], 2, "--run would be ignored"),
        (["embed", "--encoder", "resnet9", "--weights", "random"], 2, "no dataset of its own"),
        (["knn", "x.npy", "--encoder", "resnet9"], 2, "--encoder would be ignored"),
        (["pretrain", "--from", "x", "--weights", "y"], 2, "leave one of them out"),
        (["pretrain", "--from", "nowhere"], 5, "no run at 'nowhere'"),
    ],
)
def test_encoder__what_cannot_be_is_refused(clr: Clr, folder: Path, arguments: list[str], code: int, said: str) -> None:
    result = clr(*arguments, cwd=folder)
    assert result.code == code, result.err
    assert said in result.err
    assert len(result.err.strip().splitlines()) <= 4
    assert not (folder / "ran").exists()
    assert not list(folder.glob("runs/*evil*"))


def test_encoder__from_a_file_to_neighbors_and_a_training(clr: Clr, folder: Path) -> None:
    encoder = ["--encoder", "resnet9", "--weights", "small.safetensors"]
    embedded = clr("embed", "photos", *encoder, "--out", "photos.npz", "--json", cwd=folder)
    assert embedded.code == 0, embedded.err
    assert embedded.json["run"] == "resnet9-small"
    assert "54 tensors of " in embedded.err
    assert "none missing, none left over; sha256 " in embedded.err
    found = clr("knn", "photos.npz", "--query", "photos/03.png", "--include-self", "-k", "2", "--json", cwd=folder)
    assert found.code == 0, found.err  # the file names its encoder
    nearest = found.json["queries"][0]["neighbors"][0]
    assert nearest["item"].endswith("03.png")
    compared = clr("similarity", "photos/01.png", "photos/01.png", *encoder, "--json", cwd=folder)
    assert compared.json["similarity"] == pytest.approx(1, abs=1e-6)
    assert compared.json["run"] == "resnet9-small"
    assert "tensors of" not in compared.err  # it is there already
    trained = clr(
        *("pretrain", "--from", "resnet9-small", "--epochs", "0.5", "--batch-size", "128", "--out", "runs/on"),
        *("--device", "cpu", "--precision", "fp32"),
        cwd=folder,
    )
    assert trained.code == 0, trained.err
    assert "resnet9 begins with 54 tensors" in trained.err
    table = clr("linear-eval", "--run", "on", "--head", "knn", "--json", cwd=folder)
    features = [row["features"] for row in table.json["rows"] if "whitened" not in row["features"]]
    assert features == ["pretrained", "start", "random", "pixels"]
    listed = clr("runs", cwd=folder)
    assert "imported" in listed.out
    assert clr("embed", "photos", "--out", "again.npz", "--json", cwd=folder).json["run"] == "on"  # the newest finished


def test_pretrain__from_a_run_without_an_encoder(clr: Clr, tmp_path: Path) -> None:
    made = clr("pretrain", "--method", "autodecoder", "--epochs", "0.2", "--out", "plain", cwd=tmp_path)
    assert made.code == 0, made.err
    done = clr("pretrain", "--weights", "plain", "--epochs", "0.2", cwd=tmp_path)
    assert done.code == 2
    assert "has no encoder to begin with: autodecoder has none" in done.err


def test_linear_eval__start_of_a_finetuned_run(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = trained / "runs/small"
    made = clr("finetune", "--run", run, "--epochs", "0.1", "--out", tmp_path / "tuned", cwd=tmp_path)
    assert made.code == 0, made.err
    done = clr("linear-eval", "--run", tmp_path / "tuned", "--baseline", "start", "--head", "knn", cwd=tmp_path)
    assert done.code == 2
    assert f"measure that run: clr linear-eval --run {run}" in done.err.replace("\n", " ").replace("  ", " ")

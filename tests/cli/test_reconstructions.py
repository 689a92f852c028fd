"""Methods with a decoder as a user meets them: trained, embedded, drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clr_process import Clr
from PIL import Image

from contrastive_cli.core.errors import UsageError
from contrastive_cli.services.configuration import resolve

FEW = ["--epochs", "1", "--batch-size", "128", "--device", "cpu", "--precision", "fp32"]
FEW += ["--set", "method.decoder_width=4", "--set", "method.embed_steps=2", "--set", "train.evaluations=1"]


def test_autodecoder__trains_without_an_encoder_and_draws(clr: Clr, tmp_path: Path) -> None:
    trained = clr("pretrain", "--method", "autodecoder", *FEW, "--out", "runs/a", cwd=tmp_path)
    assert trained.code == 0, trained.err
    assert "no encoder" in trained.err
    assert json.loads((tmp_path / "runs/a/manifest.json").read_bytes())["encoder"] == "none"
    drawn = clr("plot", "reconstructions", "--count", "3", "--json", cwd=tmp_path)
    assert drawn.code == 0, drawn.err
    assert drawn.json["images"] == 3
    assert drawn.json["error"] > 0
    with Image.open(tmp_path / drawn.json["file"]) as picture:
        assert picture.width > 300


def test_plot_reconstructions__refuses_a_method_without_a_decoder(clr: Clr, trained: Path) -> None:
    refused = clr("plot", "reconstructions", cwd=trained)
    assert refused.code == 2
    assert "simclr has no decoder" in refused.err
    assert "autodecoder, autoencoder, vae" in refused.err


def test_resolve__refuses_an_encoder_for_a_method_without_one() -> None:
    flags = {"device": "cpu", "method": {"name": "autodecoder"}}
    assert resolve(config=None, sets={}, flags=flags).config.encoder.name == "none"
    with pytest.raises(UsageError, match="autodecoder has no encoder"):
        resolve(config=None, sets={}, flags={**flags, "encoder": {"name": "resnet18"}})

"""Embeddings of a trained run: the fast ways against the plain ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contrastive_cli.core.runs import Run
from contrastive_cli.engine import device
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.services.inference import image_files as embedding_files
from contrastive_cli.services.inference.image_files import embed_paths
from contrastive_cli.services.inference.model import embed_pixels, load_model
from contrastive_cli.views.augment import to_input


def test_embed_pixels__folded_in_pieces_equals_the_encoder_itself(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(Run(trained / "runs/small"), device="cpu")
    assert model.precision == "fp32"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 1, 32, 32), dtype=np.uint8)
    manifest = model.manifest
    with torch.no_grad():
        images = to_input(torch.from_numpy(pixels), size=32, mean=manifest.mean, std=manifest.std)
        expected = encoder_of(model.method)(images).numpy()
    monkeypatch.setattr(device, "PIXELS_PER_PASS", {"cpu": 7 * 32**2, "cuda": 0})
    np.testing.assert_allclose(embed_pixels(model, pixels), expected, rtol=1e-4, atol=1e-5)
    kinds = {type(module) for module in encoder_of(model.embedder).modules()}
    assert torch.nn.BatchNorm2d not in kinds
    assert torch.nn.BatchNorm2d in {type(module) for module in encoder_of(model.method).modules()}


def test_embed_paths__files_in_pieces_keep_their_order(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(Run(trained / "runs/small"), device="cpu")
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number:02d}.png" for number in range(23)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    paths[5].write_bytes(b"no image")
    whole, bad = embed_paths(model, paths)
    monkeypatch.setattr(embedding_files, "FILES_AT_ONCE", 4)
    seen: list[tuple[int, int]] = []
    pieces, bad_pieces = embed_paths(model, paths, progress=lambda done, total: seen.append((done, total)))
    assert whole.paths == pieces.paths == tuple(str(path) for path in paths if path != paths[5])
    np.testing.assert_allclose(whole.vectors, pieces.vectors, rtol=1e-4, atol=1e-5)
    assert [error.path for error in bad] == [error.path for error in bad_pieces] == [str(paths[5])]
    assert seen[-1] == (23, 23)
    assert sorted(seen) == seen

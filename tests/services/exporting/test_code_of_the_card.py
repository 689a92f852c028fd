"""The lines of Python on the card of an export, run as they stand: they make of a file what the run makes of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import SMALL_RUN

import contrastive_cli as clr_package
from contrastive_cli.core.config import nested
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.exporting.export import export
from contrastive_cli.services.inference.model import load_model
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import start_session


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dataset.stored_size": 48},
        {"preprocess.resize": 40, "preprocess.interpolation": "bilinear"},
        {"preprocess.resize": 40, "preprocess.rule": "squash"},
    ],
    ids=["own rule", "stored larger", "shorter side", "squash"],
)
def test_card__its_lines_prepare_a_photo_as_the_run_does(settings: dict[str, Any], tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for number, shape in enumerate([(90, 64), (64, 101), (70, 70)] * 6):
        file = tmp_path / "photos" / ("sea", "wood")[number % 2] / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(noise.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        coarse.resize(shape, Image.Resampling.BICUBIC).save(file)
    flags = {**SMALL_RUN, "dataset.name": "folder", "dataset.data_dir": str(tmp_path / "photos"), **settings}
    flags |= {"train.epochs": 1, "dataset.size": 32, "train.batch_size": 8}
    session = start_session(
        resolve(config=None, sets={}, flags=nested(flags)).config, out=tmp_path / "run", overwrite=False
    )
    for _ in train_session(session):
        pass
    out = tmp_path / "plain"
    export(load_model(session.run, device="cpu"), form="safetensors", out=out)
    found = re.search(r"```python\n(.*?photo\.jpg.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert found is not None
    for photo in sorted((tmp_path / "photos/sea").iterdir())[:3]:  # one of each shape
        (out / "photo.jpg").write_bytes(photo.read_bytes())
        code = f"{found[1]}\nnp.save('h.npy', h.numpy())"
        subprocess.run([sys.executable, "-c", code], cwd=out, check=True)
        expected = clr_package.load(session.run.path, device="cpu").encode([photo], space="raw")
        np.testing.assert_allclose(np.load(out / "h.npy"), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

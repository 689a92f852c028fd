"""Images kept larger than what the encoder sees: crops keep their detail, and all ways to an embedding agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.services.configuration import PretrainConfig, resolve
from contrastive_cli.services.inference.image_files import embed_paths
from contrastive_cli.services.inference.model import embed_images, load_model
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import start_session
from contrastive_cli.services.training.setup import set_up_training
from contrastive_cli.services.training.steps import Batches, train_steps

STORED, SIZE = 64, 16


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Stripes one pixel wide, which no picture of a quarter of the side can show."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        pixels = np.zeros((STORED, STORED, 3), np.uint8)
        pixels[:, number % 2 :: 2] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield folder


def configured(photos: Path, *, stored_size: int | None, **more: Any) -> PretrainConfig:
    flags = {
        "dataset.name": "folder",
        "dataset.data_dir": str(photos),
        "dataset.size": SIZE,
        "views.recipe": "none",
        "encoder.width": 4,
        "device": "cpu",
        "train.epochs": 1.0,
        "train.batch_size": 4,
        **more,
    }
    sets = {} if stored_size is None else {"dataset": {"stored_size": stored_size}}
    return resolve(config=None, sets=sets, flags=nested(flags)).config


@pytest.mark.parametrize(("stored_size", "contrast"), [(STORED, 1.0), (None, 0.0)])
def test_stored_size__a_crop_shows_what_a_small_picture_has_lost(
    photos: Path, stored_size: int | None, contrast: float
) -> None:
    part = (SIZE / STORED) ** 2
    crops = {"views.crop_probability": 1.0, "views.crop_area": [part, part], "views.crop_aspect": [1.0, 1.0]}
    setup = set_up_training(configured(photos, stored_size=stored_size, **crops))
    views = Batches(setup).part(0, slice(0, 4)).views[0] * setup.images.std[0] + setup.images.mean[0]
    assert views.shape[-2:] == (SIZE, SIZE)
    seen = views.amax(dim=(2, 3, 4)) - views.amin(dim=(2, 3, 4))
    torch.testing.assert_close(seen, torch.full_like(seen, contrast), atol=0.05, rtol=0)


def test_stored_size__split_and_files_embed_alike(photos: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"  # the stripes are all alike to the encoder, which would pass for a collapse
    others.mkdir()
    generator = np.random.default_rng(0)
    for number in range(8):
        blocks = generator.integers(256, size=(4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(STORED // 4, axis=0).repeat(STORED // 4, axis=1)).save(others / f"{number}.png")
    session = start_session(configured(others, stored_size=STORED), out=tmp_path / "run", overwrite=False)
    for _ in train_session(session):
        pass
    model = load_model(Run(tmp_path / "run"))
    assert (model.manifest.size, model.manifest.decoded_size) == (SIZE, STORED)
    images = open_split(model, "train")
    assert images.fingerprint == model.manifest.dataset.fingerprint
    split = embed_images(model, images)
    files, bad = embed_paths(model, [others / path for path in images.paths])
    assert not bad
    np.testing.assert_allclose(files.vectors, split.vectors, rtol=1e-5, atol=1e-6)


def test_stored_size__below_the_size_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match=r"dataset.stored_size 8 is below dataset.size 16"):
        configured(photos, stored_size=8)


def test_view_size__trains_on_small_views_and_embeds_at_the_size(photos: Path, tmp_path: Path) -> None:
    config = configured(photos, stored_size=None, **{"dataset.view_size": 8})
    assert Batches(set_up_training(config)).part(0, slice(0, 4)).views[0].shape == (2, 4, 3, 8, 8)
    session = start_session(config, out=tmp_path / "run", overwrite=False)
    list(train_steps(session.setup, first_step=0, total_steps=2))
    assert session.run.manifest().size == SIZE
    with pytest.raises(UsageError, match="vae draws what it sees"):
        configured(photos, stored_size=None, **{"dataset.view_size": 8, "method.name": "vae"})
    configured(photos, stored_size=None, **{"dataset.view_size": SIZE, "method.name": "vae"})


def test_view_size__a_small_view_is_the_crop_made_smaller(photos: Path) -> None:
    whole = {"views.crop_probability": 1.0, "views.crop_area": [1.0, 1.0], "views.crop_aspect": [1.0, 1.0]}
    small, full = (
        Batches(set_up_training(configured(photos, stored_size=None, **whole, **more)))
        .part(0, slice(0, 4))
        .single_views[0]
        for more in ({"dataset.view_size": 8}, {})
    )
    expected = torch.nn.functional.interpolate(full, size=(8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(small, expected, atol=0.01, rtol=0)

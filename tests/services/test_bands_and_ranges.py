"""A run on deep pictures of several bands: trained, resumed, embedded, evaluated and drawn by one range."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from small_runs import SMALL_RUN, of_its_encoder

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.data.cache import cache_directory
from contrastive_cli.embeddings.files import NeighborsFile, write_neighbors
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.display import for_display
from contrastive_cli.services.figures.figures import plot_views
from contrastive_cli.services.figures.neighbors import plot_neighbors
from contrastive_cli.services.figures.reconstructions import plot_reconstructions
from contrastive_cli.services.inference.image_files import decode_all, embed_paths
from contrastive_cli.services.inference.model import embed_images, load_model
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.services.training.finetuning import finetune_session
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.resumption import Changes
from contrastive_cli.services.training.sessions import resume_session, start_session

SIZE = 16


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLR_CACHE", str(tmp_path / "cache"))


def make_pictures(folder: Path, *, bands: int, count: int = 12, dtype: str = "u2") -> Path:
    """Two classes of uint16 TIFFs; band b lies between 100 b and 100 b + 1000."""
    generator = np.random.default_rng(0)
    for number in range(count):
        values = generator.integers(0, 1001, (20, 20, bands)) + 100 * np.arange(bands)
        values[: 10 * (number % 2)] //= 2
        file = folder / "ab"[number % 2] / f"{number:02d}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            file, values.astype(dtype).squeeze(), photometric="minisblack", planarconfig="contig" if bands > 1 else None
        )
    return folder


def configured(folder: Path, **more: Any) -> Any:
    settings = {
        **SMALL_RUN,
        "dataset.name": "folder",
        "dataset.data_dir": str(folder),
        "dataset.size": SIZE,
        "train.epochs": 1.0,
        "train.batch_size": 4,
        **more,
    }
    return resolve(config=None, sets=nested(of_its_encoder(settings)), flags={}).config


def trained(folder: Path, out: Path, **more: Any) -> Run:
    session = start_session(configured(folder, **more), out=out, overwrite=False)
    for _ in train_session(session):
        pass
    return session.run


@pytest.mark.parametrize(
    ("encoder", "bands"),
    [
        ("resnet9", 13),
        ("resnet18", 4),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in [("resnet9", 4), ("resnet18", 13)]),
    ],
)
def test_bands__a_run_embeds_files_as_it_embeds_the_split_and_is_drawn(
    tmp_path: Path, encoder: str, bands: int
) -> None:
    folder = make_pictures(tmp_path / "data", bands=bands)
    chosen = list(range(bands))
    run = trained(folder, tmp_path / "run", **{"encoder.name": encoder, "dataset.bands": chosen})
    manifest = run.manifest()
    assert manifest.bands == tuple(chosen)
    assert len(manifest.mean) == len(manifest.std) == bands
    assert manifest.range is not None
    assert len(manifest.range) == bands
    model = load_model(run, device="cpu")
    train = open_split(model, "train")
    assert train.fingerprint == manifest.dataset.fingerprint
    of_split = embed_images(model, train)
    assert of_split.preprocess["bands"] == chosen
    of_files, _ = embed_paths(model, [folder / name for name in train.paths])
    np.testing.assert_allclose(of_files.vectors, of_split.vectors, rtol=1e-4, atol=1e-5)

    views = plot_views(run, out=tmp_path / "views.png", count=3, data_dir=None)
    assert np.asarray(Image.open(views)).std() > 5
    mined = NeighborsFile(
        indices=np.array([[0, 1, 2]] * train.num_samples),
        distances=np.zeros((train.num_samples, 3), np.float32),
        metric="cosine",
        paths=train.paths,
        dataset=of_split.dataset,
        source="",
        queries="",
    )
    write_neighbors(tmp_path / "n.pkl", mined)
    drawn = plot_neighbors(run, file=tmp_path / "n.pkl", out=tmp_path / "n.png", count=3, data_dir=None)
    assert np.asarray(Image.open(drawn)).std() > 5


def test_bands__reconstructions_are_drawn(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "data", bands=4)
    more = {"dataset.bands": [0, 1, 2, 3], "dataset.display_bands": [3], "method.name": "autoencoder"}
    run = trained(folder, tmp_path / "run", **more)
    file, facts = plot_reconstructions(
        run, out=tmp_path / "r.png", split="train", count=2, data_dir=None, device="cpu", seed=0
    )
    assert file.stat().st_size > 1000
    assert facts["images"] == 2


def test_range__pictures_embedded_later_are_scaled_as_in_training(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "data", bands=1)
    run = trained(folder, tmp_path / "run")
    assert run.manifest().range == (0.0, 1000.0)
    model = load_model(run, device="cpu")
    values = tifffile.imread(folder / "a" / "00.tif").astype(int)
    darker, alone = tmp_path / "darker.tif", tmp_path / "alone.tif"
    tifffile.imwrite(darker, (values // 4).astype(np.uint16))
    tifffile.imwrite(alone, np.full((20, 20), 500, np.int16))  # another type with the same meaning
    pixels, _, _ = decode_all(model, [folder / "a" / "00.tif", darker, alone])
    assert abs(pixels[1].mean() / pixels[0].mean() - 0.25) < 0.02
    assert set(pixels[2].flat) == {128}


def test_range__a_resumed_run_keeps_the_range_it_began_with(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "data", bands=1)
    run = trained(folder, tmp_path / "run")
    tree = json.loads((run.path / "manifest.json").read_text())
    assert tree["range"] == [0.0, 1000.0]
    longer = Changes(config=None, sets={}, flags={"train": {"epochs": 2.0}})
    assert resume_session(Run(run.path), changes=longer).setup.images.picture_range == (0.0, 1000.0)


def forget_ranges(run: Run) -> None:
    """Take out of a run what runs had not before there was a range."""
    newer = ("range", "bands", "display_bands")
    config = run.path / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if line.split(":")[0].strip() not in newer))
    tree = json.loads((run.path / "manifest.json").read_text())
    assert (tree.pop("range"), tree.pop("bands")) == (None, None)
    for key, artifact in tree["artifacts"].items():
        if artifact["kind"] == "checkpoint":
            file = run.path / key
            state = torch.load(file, weights_only=True)
            for name in newer:
                del state["config"]["dataset"][name]
            torch.save(state, file)
            data = file.read_bytes()
            artifact |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (run.path / "manifest.json").write_text(json.dumps(tree))


def test_range__runs_of_earlier_versions_load_and_scale_as_they_did(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "data", bands=1)
    run = trained(folder, tmp_path / "run", **{"dataset.range": None})
    forget_ranges(run)
    model = load_model(Run(run.path), device="cpu")
    train = open_split(model, "train")
    assert train.fingerprint == model.manifest.dataset.fingerprint
    assert int(train.images.max()) == round(1000 / 257)
    longer = Changes(config=None, sets={}, flags={"train": {"epochs": 2.0}})
    session = resume_session(Run(run.path), changes=longer)
    assert session.setup.images.picture_range is None


def test_range__finetuning_goes_on_by_the_range_and_bands_of_its_parent(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "data", bands=4)
    run = trained(folder, tmp_path / "run", **{"dataset.bands": [3, 0, 1, 2], "dataset.display_bands": [3]})
    flags = {"train": {"epochs": 1.0, "batch_size": 4}, "device": "cpu"}
    session = finetune_session(run, config=None, sets={}, flags=flags, out=tmp_path / "fine", overwrite=False)
    assert session.setup.images.picture_range == run.manifest().range == session.run.manifest().range
    assert session.run.manifest().bands == (3, 0, 1, 2)


def test_range__measured_once_so_the_cache_holds_one_copy(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "data", bands=1)
    run = trained(folder, tmp_path / "run")
    open_split(load_model(run, device="cpu"), "train")
    assert len([entry for entry in cache_directory().iterdir() if entry.is_dir()]) == 1


def test_start_session__says_what_was_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_pictures(tmp_path / "data", bands=13)
    with caplog.at_level("INFO", logger="contrastive_cli"):
        start_session(configured(folder), out=tmp_path / "run", overwrite=False)
    assert "TIFFs of 13 bands: the first three are taken for red, green, blue" in caplog.text
    assert "becomes black" in caplog.text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"range": [3, 3]}, "the smaller first"),
        ({"range": "wide"}, "must be auto"),
        ({"range": [[0, 1], [0, 2]]}, "range has 2 pairs"),
        ({"bands": []}, "1 to 16 bands"),
        ({"bands": list(range(17))}, "1 to 16 bands"),
        ({"bands": [-1]}, "greater than or equal to 0"),
        ({"bands": [0, 1], "display_bands": [2]}, "one or three of dataset.bands"),
        ({"display_bands": [0]}, "one or three of dataset.bands"),
    ],
)
def test_dataset_config__misfits_are_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        configured(tmp_path, **{f"dataset.{key}": value for key, value in settings.items()})


def test_for_display__chosen_bands_or_the_first_ones() -> None:
    images = np.arange(2 * 5).reshape(2, 5, 1, 1)
    five = DatasetConfig(name="folder", bands=(9, 8, 7, 6, 5), display_bands=(5, 9, 7))
    assert for_display(images, five)[0].ravel().tolist() == [4, 0, 2]
    assert for_display(images, DatasetConfig(name="folder", bands=(9, 8, 7, 6, 5)))[0].ravel().tolist() == [0, 1, 2]
    assert for_display(images[:, :2], DatasetConfig(name="folder", bands=(9, 8))).shape == (2, 1, 1, 1)
    assert for_display(images[:, :1], DatasetConfig()).shape == (2, 1, 1, 1)


def test_build_encoder__timm_and_torchvision_take_bands() -> None:
    for name in ("resnet9", "resnet18", "timm/resnet10t"):
        encoder = build_encoder(EncoderConfig(name=name), channels=16, size=32).eval()
        assert encoder(torch.zeros(1, 16, 32, 32)).shape == (1, encoder.embedding_dim)

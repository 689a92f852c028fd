"""Encoders of other libraries as runs: the same pictures, the same vectors as there, and no copy of the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from contrastive_cli.core.config import read_assignments
from contrastive_cli.core.errors import ClrError, RunError, UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.services.importing.imported import imported_run
from contrastive_cli.services.inference.image_files import decode_all, embed_paths
from contrastive_cli.services.inference.model import Model, load_model
from contrastive_cli.services.training.sessions import resume_session

LEVEL = 1 / 255


def paint_photos(folder: Path) -> list[Path]:
    """Photographs that scikit-learn comes with, upright and lying, of usual sizes, and a gray one."""
    from sklearn.datasets import load_sample_images

    first, second = (Image.fromarray(pixels) for pixels in load_sample_images().images)
    folder.mkdir(parents=True, exist_ok=True)
    first.save(folder / "a.jpg", quality=95)  # 640 x 427
    second.rotate(90, expand=True).save(folder / "b.jpg", quality=80)
    first.resize((1200, 900)).save(folder / "c.png")
    second.resize((501, 333)).save(folder / "d.jpg")
    second.convert("L").resize((300, 400)).save(folder / "gray.png")
    return sorted(folder.iterdir())


def seen_by(model: Model, paths: list[Path]) -> torch.Tensor:
    """What the encoder sees of files."""
    return model.preprocessing(torch.from_numpy(decode_all(model, paths)[0]))


def compare(model: Model, net: nn.Module, transform: Callable[[Any], Any], paths: list[Path]) -> None:
    """The inputs within a level, the vectors in one direction, as the other library makes them."""
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(transform(image.convert("RGB")))
    wanted = torch.stack(pictures)
    std = torch.tensor(model.manifest.std)[:, None, None]
    assert ((seen_by(model, paths) - wanted) * std).abs().max() <= LEVEL
    with torch.no_grad():
        vectors = net.eval()(wanted)
    found = torch.from_numpy(embed_paths(model, paths)[0].vectors)
    assert nn.functional.cosine_similarity(vectors, found).min() > 0.9999
    torch.testing.assert_close(found, vectors, rtol=1e-3, atol=1e-3 * float(vectors.abs().max()))


def running_statistics(net: nn.Module) -> nn.Module:
    """Batch norms that have seen something."""
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return net.eval()


def test_imported_run__equals_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net: Any = running_statistics(models.resnet18())
    torch.save(net.state_dict(), tmp_path / "w.pth")
    path = imported_run("resnet18", str(tmp_path / "w.pth"), runs_dir=tmp_path / "runs")
    model = load_model(Run(path), device="cpu")
    net.fc = nn.Identity()
    photos = paint_photos(tmp_path / "photos")
    compare(model, net, models.ResNet18_Weights.IMAGENET1K_V1.transforms(), photos)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["IMAGENET1K_V1", "IMAGENET1K_V2"])
def test_imported_run__of_a_published_name(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net: Any = running_statistics(models.resnet50())
    monkeypatch.setattr(models.ResNet50_Weights, "get_state_dict", lambda *_, **__: net.state_dict())
    path = imported_run("resnet50", version, runs_dir=tmp_path)
    assert path == tmp_path / f"resnet50-{version}"
    model = load_model(Run(path), device="cpu")
    net.fc = nn.Identity()
    photos = paint_photos(tmp_path / "photos")[:2]
    compare(model, net, models.ResNet50_Weights[version].transforms(), photos)
    monkeypatch.setattr(models.ResNet50_Weights, "get_state_dict", lambda *_, **__: models.resnet50().state_dict())
    with pytest.raises(RunError, match=f"the weights {version} are not those"):
        load_model(Run(path), device="cpu")


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv3_small_050", "test_convnext"])
def test_imported_run__equals_timm(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    made = timm.create_model(name, num_classes=7)
    net: Any = made if "vit" in name else running_statistics(made)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    path = imported_run(f"timm/{name}", str(tmp_path / "model.safetensors"), runs_dir=tmp_path / "runs")
    net.reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net), is_training=False)
    compare(load_model(Run(path), device="cpu"), net, transform, paint_photos(tmp_path / "photos"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
def test_imported_run__of_timms_own_folder(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", minversion="1.0.20")
    net = timm.create_model(
        "resnet18", num_classes=0, pretrained_cfg_overlay={"crop_pct": 0.8, "mean": (0.1, 0.2, 0.3)}
    )
    running_statistics(net)
    timm.models.save_for_hf(net, str(tmp_path / "folder"), safe_serialization=True)
    path = imported_run("timm/resnet18", str(tmp_path / "folder"), runs_dir=tmp_path / "runs")
    again = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(again), is_training=False)
    model = load_model(Run(path), device="cpu")
    assert model.manifest.framing is not None
    assert (model.manifest.framing.resize, model.manifest.mean) == (280, (0.1, 0.2, 0.3))
    compare(model, again, transform, paint_photos(tmp_path / "photos")[:3])
    with pytest.raises(UsageError, match="holds a resnet18, not a resnet34"):
        imported_run("timm/resnet34", str(tmp_path / "folder"), runs_dir=tmp_path / "runs")


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own
@pytest.mark.slow
def test_registered_input__of_every_model_of_timm() -> None:
    """Size, resize and the rest equal what timm's own factory makes of its configurations."""
    timm = pytest.importorskip("timm")
    from contrastive_cli.models.timm_encoders import registered_input

    refused = 0
    for name in timm.list_models(pretrained=True):
        config = timm.data.resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
        try:
            seen = registered_input(name)
        except ClrError:
            refused += 1
            continue
        steps = timm.data.create_transform(**config, is_training=False).transforms
        resize = steps[0].size if isinstance(steps[0].size, int) else steps[0].size[0]
        assert seen.framing is not None
        assert (seen.size, seen.framing.resize) == (config["input_size"][1], resize), name
        assert seen.framing.interpolation == config["interpolation"], name
        assert (seen.mean, seen.std) == (tuple(config["mean"]), tuple(config["std"])), name
    assert refused <= 20  # pictures that are not square, and those that are padded


def write_small(tmp_path: Path, *, seed: int = 0) -> str:
    """A file of the small encoder, which is quick."""
    from contrastive_cli.models.encoders import EncoderConfig, build_fresh

    torch.manual_seed(seed)
    encoder = build_fresh(EncoderConfig(name="resnet9", width=4, embedding_dim=16), channels=3, size=32)
    save_file(encoder.state_dict(), tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


def test_imported_run__is_found_again_and_holds_no_copy(tmp_path: Path) -> None:
    file, runs = write_small(tmp_path), tmp_path / "runs"
    first = imported_run("resnet9", file, runs_dir=runs)
    manifest = Run(first).manifest()
    assert (manifest.status, manifest.method, manifest.total_steps) == ("imported", "imported", 0)
    assert manifest.weights is not None
    assert manifest.weights.source == file
    assert {path.name for path in first.iterdir()} <= {"manifest.json", "config.yaml", "run.lock"}
    assert imported_run("resnet9", file, runs_dir=runs) == first
    changed = imported_run("resnet9", file, sets=read_assignments(["dataset.size=48"]), runs_dir=runs)
    assert changed == first.with_name(f"{first.name}-2")
    assert Run(changed).manifest().size == 48
    assert imported_run("resnet9", file, sets=read_assignments(["dataset.size=48"]), runs_dir=runs) == changed


@pytest.mark.parametrize("embedding_dim", [None, 24])
def test_imported_run__knows_the_shape_of_a_small_encoder(embedding_dim: int | None, tmp_path: Path) -> None:
    from contrastive_cli.models.encoders import EncoderConfig, build_fresh

    config = EncoderConfig(name="resnet9", width=4, embedding_dim=embedding_dim)
    encoder = build_fresh(config, channels=3, size=32)
    save_file(encoder.state_dict(), tmp_path / "small.safetensors")
    run = Run(imported_run("resnet9", str(tmp_path / "small.safetensors"), runs_dir=tmp_path / "runs"))
    found = load_model(run, device="cpu").config.encoder
    assert (found.width, found.embedding_dim) == (4, embedding_dim)


def test_imported_run__other_weights_are_another_run(tmp_path: Path) -> None:
    file, runs = write_small(tmp_path), tmp_path / "runs"
    first = imported_run("resnet9", file, runs_dir=runs)
    old = load_model(Run(first), device="cpu").checkpoint
    write_small(tmp_path, seed=1)
    with pytest.raises(RunError, match="are not those that the encoder of"):
        load_model(Run(first), device="cpu")
    second = imported_run("resnet9", file, runs_dir=runs)
    assert second != first
    assert load_model(Run(second), device="cpu").checkpoint != old
    Path(file).unlink()
    with pytest.raises(ClrError, match="there are no weights") as caught:
        load_model(Run(second), device="cpu")
    assert caught.value.exit_code == 3


def test_imported_run__random_is_a_baseline_that_stays(tmp_path: Path) -> None:
    path = imported_run("resnet18", "random", runs_dir=tmp_path)
    first, second = (load_model(Run(path), device="cpu") for _ in range(2))
    states = [model.method.state_dict() for model in (first, second)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert first.manifest.size == 224


@pytest.mark.parametrize(
    ("encoder", "weights", "sets", "said"),
    [
        ("resnet50", None, [], "--encoder resnet50 alone has no weights"),
        ("timm/resnet18", None, [], "--encoder timm/resnet18 alone has no weights"),
        ("resnet5", "random", [], "did you mean 'resnet50'"),
        ("resnet18", "random", ["preprocess.resize=200"], "preprocess.resize 200 is below the size 224"),
        ("resnet18", "random", ["preprocess.mean=[0.5]"], "one number for each of 3 channels"),
        ("resnet18", "random", ["preprocess.std=[0,1,1]"], "preprocess.std"),
        ("resnet18", "random", ["preprocess.rule=pad"], "preprocess.rule"),
        ("resnet18", "random", ["dataset.name=digits"], "dataset.name"),
        ("resnet18", "random", ["optim.lr=1"], "unknown key 'optim'"),
    ],
)
def test_imported_run__refuses(encoder: str, weights: str | None, sets: list[str], said: str, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError) as caught:
        imported_run(encoder, weights, sets=read_assignments(sets), runs_dir=tmp_path)
    assert said in caught.value.message
    assert not list(tmp_path.iterdir())


def test_imported_run__sets_override(tmp_path: Path) -> None:
    sets = ["dataset.size=64", "preprocess.interpolation=lanczos", "preprocess.mean=[0.5,0.5,0.5]"]
    path = imported_run("resnet18", "random", sets=read_assignments(sets), runs_dir=tmp_path)
    manifest = Run(path).manifest()
    assert manifest.framing is not None
    assert (manifest.size, manifest.framing.resize, manifest.framing.interpolation) == (64, 73, "lanczos")
    assert manifest.mean == (0.5, 0.5, 0.5)
    assert manifest.std == (0.229, 0.224, 0.225)


def test_embed_paths__gray_equals_the_same_picture_in_color(tmp_path: Path) -> None:
    model = load_model(Run(imported_run("resnet9", write_small(tmp_path), runs_dir=tmp_path / "runs")), device="cpu")
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8))
    gray.save(tmp_path / "gray.png")
    gray.convert("RGB").save(tmp_path / "color.png")
    vectors = embed_paths(model, [tmp_path / "gray.png", tmp_path / "color.png"])[0].vectors
    assert np.array_equal(vectors[0], vectors[1])


def test_resume_session__of_an_imported_encoder_is_refused(tmp_path: Path) -> None:
    path = imported_run("resnet9", write_small(tmp_path), runs_dir=tmp_path / "runs")
    with pytest.raises(UsageError, match="is an encoder that was imported, not a training"):
        resume_session(Run(path))


@pytest.mark.parametrize("field", ["weights", "framing"])
def test_manifest__of_a_stranger_is_checked(field: str, tmp_path: Path) -> None:
    path = imported_run("resnet18", "random", runs_dir=tmp_path)
    text = (path / "manifest.json").read_text()
    edits = {"weights": ('"status": "imported"', '"status": "finished"'), "framing": ('"resize": 256', '"resize": 9')}
    assert edits[field][0] in text
    (path / "manifest.json").write_text(text.replace(*edits[field]))
    with pytest.raises(RunError, match="is not a manifest"):
        Run(path).manifest()

"""What is exported is read by the other library, in a way of its own, and gives what `clr embed` gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clr_process import Clr
from PIL import Image
from small_runs import SMALL_RUN, of_its_encoder
from torch import nn

import contrastive_cli as clr_package
from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import DataError, ExportError, RunError, UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.similarity import unit_rows
from contrastive_cli.engine.checkpoint import load_checkpoint, save_checkpoint
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.exporting.baked import Baked
from contrastive_cli.services.exporting.export import export
from contrastive_cli.services.exporting.model_card import code
from contrastive_cli.services.exporting.source import export_source
from contrastive_cli.services.inference.model import load_model
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import start_session

Pretrain = Callable[..., Run]
ALONE = """
import sys
class Alone:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("contrastive_cli", "safetensors", "timm", "torchvision"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Alone)
import numpy as np, torch
from model import load, prepare
with torch.no_grad():
    np.save("h.npy", load()(prepare(torch.from_numpy(np.load("pixels.npy")))).numpy())
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth pictures of several shapes, below two folders."""
    folder, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(24):
        place = folder / ("sea", "wood")[number % 2]
        place.mkdir(exist_ok=True)
        coarse = Image.fromarray(noise.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        coarse.resize(((90, 64), (64, 101), (70, 70))[number % 3], Image.Resampling.BICUBIC).save(
            place / f"{number:02d}.png"
        )
    return folder


@pytest.fixture(scope="module")
def pretrain(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Pretrain:
    """Train a step or two on the photos."""

    def train(**settings: Any) -> Run:
        flags = {**SMALL_RUN, "dataset.name": "folder", "dataset.data_dir": str(photos), "train.epochs": 1}
        flags |= {"dataset.size": 64, "train.batch_size": 8}
        flags |= {key.replace("__", "."): value for key, value in settings.items()}
        flags = of_its_encoder(flags)
        config = resolve(config=None, sets={}, flags=nested(flags)).config
        session = start_session(config, out=tmp_path_factory.mktemp("runs") / "run", overwrite=False)
        for _ in train_session(session):
            pass
        return session.run

    return train


@pytest.fixture(scope="module")
def resnet(pretrain: Pretrain) -> Run:
    return pretrain(encoder__name="resnet18", encoder__stem="imagenet")


def embedded(run: Run, files: list[Path]) -> np.ndarray[Any, Any]:
    return clr_package.load(run.path, device="cpu").encode(files, space="raw")


def least_cosine(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> float:
    return float((unit_rows(one) * unit_rows(two)).sum(axis=1).min())


def test_safetensors__needs_torch_alone(clr: Clr, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "plain"
    done = clr("export", "--run", trained / "runs/small", "--out", out, "--json", cwd=trained)
    assert done.code == 0, done.err
    assert done.json["pictures"] == 100
    assert done.json["relative_difference"] < 1e-5
    assert done.json["cosine"] > 0.999999
    assert sorted(file.name for file in out.iterdir()) == done.json["files"]
    assert done.json["files"] == ["README.md", "config.json", "model.py", "model.safetensors"]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    np.save(out / "pixels.npy", pixels)
    subprocess.run([sys.executable, "-c", ALONE], cwd=out, check=True, env={"PATH": "", "OMP_NUM_THREADS": "1"})
    expected = clr_package.load(trained / "runs/small", device="cpu").encode(torch.from_numpy(pixels), space="raw")
    np.testing.assert_allclose(np.load(out / "h.npy"), expected, rtol=1e-4, atol=1e-5)


def test_safetensors__of_a_resnet_with_the_small_stem(pretrain: Pretrain, photos: Path, tmp_path: Path) -> None:
    run = pretrain(encoder__name="resnet18", dataset__size=32)
    model = load_model(run, device="cpu")
    assert export(model, form="safetensors", out=tmp_path / "plain").agreement.relative_difference < 1e-5
    for form in ("timm", "torchvision"):
        with pytest.raises(UsageError, match="3x3 stem"):
            export(model, form=form, out=tmp_path / form)
    assert [file.name for file in tmp_path.iterdir()] == ["plain"]


def test_timm__opens_it_with_its_own_transform(resnet: Run, photos: Path, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    done = export(load_model(resnet, device="cpu"), form="timm", out=tmp_path / "timm")
    assert done.agreement.relative_difference < 1e-5
    net = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
    files = sorted(photos.rglob("*.png"))
    with torch.no_grad():
        found = net(torch.stack([transform(Image.open(file)) for file in files])).numpy()
    assert least_cosine(found, embedded(resnet, files)) > 0.9999
    classifier = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True, num_classes=3)
    assert classifier(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_timm__of_its_own_vit_at_another_size(pretrain: Pretrain, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    run = pretrain(encoder__name="timm/test_vit", dataset__size=48)
    assert export(load_model(run, device="cpu"), form="timm", out=tmp_path / "vit").agreement.cosine > 0.999999
    config = json.loads((tmp_path / "vit" / "config.json").read_bytes())
    assert (config["architecture"], config["model_args"]) == ("test_vit", {"img_size": 48})
    net = timm.create_model(f"local-dir:{tmp_path / 'vit'}", pretrained=True, num_classes=0)
    assert net(torch.zeros(1, 3, 48, 48)).shape == (1, 64)
    with pytest.raises(UsageError, match="timm's"):
        export(load_model(run, device="cpu"), form="safetensors", out=tmp_path / "plain")


def test_torchvision__loads_it_strictly(resnet: Run, photos: Path, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    export(load_model(resnet, device="cpu"), form="torchvision", out=tmp_path / "tv")
    net = models.resnet18()
    net.fc = nn.Identity()
    net.load_state_dict(torch.load(tmp_path / "tv" / "resnet18.pth", weights_only=True))
    files = sorted(photos.rglob("*.png"))
    images = clr_package.load(resnet.path, device="cpu").preprocess(files)
    with torch.no_grad():
        found = net.eval()(images).numpy()
    np.testing.assert_allclose(found, embedded(resnet, files), rtol=1e-3, atol=1e-5)


def test_onnx__takes_raw_pictures_of_any_size(pretrain: Pretrain, photos: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = pretrain()
    done = export(load_model(run, device="cpu"), form="onnx", out=tmp_path / "onnx", baked=True)
    assert done.agreement.relative_difference < 1e-5
    session = runtime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    (taken,) = session.get_inputs()
    assert (taken.name, taken.type, taken.shape[3]) == ("pixels", "tensor(uint8)", 3)
    files = sorted(photos.rglob("*.png"))
    pictures = [np.array(Image.open(file)) for file in files]
    found = [session.run(None, {"pixels": picture[None]})[0] for picture in pictures]
    assert least_cosine(np.concatenate(found), embedded(run, files)) > 0.9999
    equal = np.stack([picture for picture in pictures if picture.shape == (70, 70, 3)])
    assert session.run(None, {"pixels": equal})[0].shape == (len(equal), 16)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["clr"])["preprocessing"]["size"] == 64


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("encoder", ["resnet9", "resnet50", "timm/test_vit"])
def test_graph__of_every_kind_of_encoder(pretrain: Pretrain, form: str, encoder: str, tmp_path: Path) -> None:
    run = pretrain(encoder__name=encoder, dataset__size=48)
    for baked in (False, True):
        out = tmp_path / str(baked)
        assert export(load_model(run, device="cpu"), form=form, out=out, baked=baked).agreement.cosine > 0.99999


def test_imported__keeps_the_preprocessing_of_its_weights(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From raw pictures by timm's own transform, and in the graph: of 256 px the encoder sees 224."""
    models, timm = pytest.importorskip("torchvision.models"), pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(models.resnet18().state_dict(), "weights.pth")
    encoder = clr_package.load("resnet18", weights="weights.pth", device="cpu")
    files = sorted(photos.rglob("*.png"))[:8]
    expected = encoder.encode(files)
    assert np.array_equal(encoder.encode([Image.open(file) for file in files]), expected)
    model = load_model(Run(encoder.run), device="cpu")
    assert export(model, form="timm", out=Path("timm"), paths=files).agreement.relative_difference < 1e-5
    net = timm.create_model("local-dir:timm", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
    with torch.no_grad():
        found = net(torch.stack([transform(Image.open(file)) for file in files])).numpy()
    assert least_cosine(found, expected) > 0.9999
    baked = Baked(export_source(model, baked=True))
    with torch.no_grad():
        alone = [baked(torch.from_numpy(np.array(Image.open(file)))[None]).numpy() for file in files]
    assert least_cosine(np.concatenate(alone), expected) > 0.9999
    assert "`weights.pth`" in (Path("timm") / "README.md").read_text()


def test_pt2__holds_what_comes_after_the_encoder(pretrain: Pretrain, photos: Path, tmp_path: Path) -> None:
    run = pretrain(method__name="vae", dataset__size=32)
    model = load_model(run, device="cpu")
    assert export(model, form="pt2", out=tmp_path / "pt2").agreement.relative_difference < 1e-5
    program = torch.export.load(tmp_path / "pt2" / "model.pt2").module()
    files = sorted(photos.rglob("*.png"))[:5]
    found = program(clr_package.load(run.path, device="cpu").preprocess(files))
    np.testing.assert_allclose(found.detach().numpy(), embedded(run, files), rtol=1e-3, atol=1e-5)
    with pytest.raises(UsageError, match="layers after its encoder"):
        export(model, form="safetensors", out=tmp_path / "plain")


def test_export__refuses_a_method_without_an_encoder(pretrain: Pretrain, tmp_path: Path) -> None:
    run = pretrain(method__name="autodecoder", encoder__name="none", dataset__size=16)
    with pytest.raises(UsageError, match="has no encoder"):
        export(load_model(run, device="cpu"), form="pt2", out=tmp_path / "out")


def test_export__what_differs_leaves_nothing(clr: Clr, pretrain: Pretrain, tmp_path: Path) -> None:
    run = pretrain(dataset__size=16)
    state = dict(load_checkpoint(run).state)
    weight = next(value for key, value in state["method"].items() if key.endswith("running_var"))
    weight[0] = float("nan")
    save_checkpoint(run, state, step=99, seconds=1.0)
    done = clr("export", "--run", run.path, "--out", "out", "--json", cwd=tmp_path)
    assert done.code == 6
    assert done.json["error"]["kind"] == "export"
    assert list(tmp_path.iterdir()) == []


def test_export__replaces_an_export_and_nothing_else(clr: Clr, trained: Path, tmp_path: Path) -> None:
    model = load_model(Run(trained / "runs/small"), device="cpu")
    export(model, form="safetensors", out=tmp_path / "out")
    with pytest.raises(RunError, match="holds an export"):
        export(model, form="safetensors", out=tmp_path / "out")
    export(model, form="pt2", out=tmp_path / "out", overwrite=True)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["README.md", "config.json", "model.pt2"]
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="other files"):
        export(model, form="safetensors", out=tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "onx"], "did you mean 'onnx'"),
        (["--format", "timm", "--bake-preprocessing"], "onnx or pt2"),
        (["--format", "timm"], "timm has no resnet9"),
    ],
)
def test_export__usage_errors(clr: Clr, trained: Path, tmp_path: Path, options: list[str], said: str) -> None:
    done = clr("export", "--run", trained / "runs/small", "--out", tmp_path / "out", *options, cwd=trained)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_model_card__says_where_it_comes_from(clr: Clr, trained: Path, tmp_path: Path) -> None:
    assert clr("linear-eval", "--head", "knn", "--baseline", "none", cwd=trained).code == 0
    export(load_model(Run(trained / "runs/small"), device="cpu"), form="safetensors", out=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: # yours to fill in\n")
    rows = json.loads((trained / "runs/small/eval/linear-digits.json").read_bytes())["rows"]
    accuracy = next(row["accuracy"] for row in rows if row["head"] == "knn")
    for part in ("`simclr`", "1,438 pictures: `digits`", f"{100 * accuracy:.2f} %", "from model import load"):
        assert part in card


def test_code__of_a_hostile_name_is_one_line_without_markup() -> None:
    assert code("a`](http://x)\n# b|c\x1b[31m") == "`a ](http://x) # b c [31m`"
    assert code("") == "(no name)"


def test_export_error__names_its_exit_code() -> None:
    assert ExportError("x").exit_code == 6


@pytest.mark.parametrize("encoder", ["resnet9", "resnet18"])
def test_safetensors__comes_back_with_its_encoder_and_preprocessing(
    pretrain: Pretrain, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    run = pretrain(encoder__name=encoder, dataset__size=32)
    export(load_model(run, device="cpu"), form="safetensors", out=tmp_path / "plain")
    monkeypatch.chdir(tmp_path)
    files = sorted(photos.rglob("*.png"))
    back = clr_package.load(weights=tmp_path / "plain", device="cpu")
    assert least_cosine(back.encode(files, space="raw"), embedded(run, files)) > 0.999
    with pytest.raises(UsageError, match=f"holds a {encoder}, not a resnet34"):
        clr_package.load("resnet34", weights=tmp_path / "plain", device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"size": "x"},
        {"size": 10**9},
        {"mean": [0.5, float("nan"), 0.5]},
        {"std": [0, 1, 1]},
        {"mean": [0.5]},
        {"resize": 3},
    ],
)
def test_safetensors__a_damaged_description(resnet: Run, tmp_path: Path, change: dict[str, Any]) -> None:
    export(load_model(resnet, device="cpu"), form="safetensors", out=tmp_path / "plain")
    file = tmp_path / "plain" / "config.json"
    said = json.loads(file.read_bytes())
    said["preprocessing"] |= change
    file.write_text(json.dumps(said))
    with pytest.raises(DataError, match=r"config\.json beside model\.safetensors cannot be used"):
        clr_package.load("resnet18", weights=tmp_path / "plain", device="cpu")


@pytest.mark.parametrize("wrong", [{"layer": "Z"}, {"space": "banana"}])
def test_encode__no_such_layer_or_space(resnet: Run, photos: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"no (layer|space) '(Z|banana)'"):
        clr_package.load(resnet.path, device="cpu").encode(sorted(photos.rglob("*.png"))[:1], **wrong)

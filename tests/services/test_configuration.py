"""The layers of a configuration, lowest first: defaults, the dataset's own, --config, --set, named options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from contrastive_cli.core.config import read_assignments
from contrastive_cli.core.durations import parse_duration
from contrastive_cli.core.errors import UsageError
from contrastive_cli.engine.optim import OptimConfig
from contrastive_cli.models.encoders import EncoderConfig
from contrastive_cli.services.configuration import PretrainConfig, resolve


def resolved(*, config: str | None = None, sets: list[str] | None = None, **flags: Any) -> PretrainConfig:
    tree = {"device": "cpu", **flags}
    return resolve(config=config, sets=read_assignments(sets or []), flags=tree).config


def test_resolve__without_anything_is_the_digits_preset() -> None:
    result = resolve(config=None, sets={}, flags={"device": "cpu"})
    assert result.own_preset == "digits-simclr"
    config = result.config
    assert (config.method_name, config.dataset.name, config.encoder.name) == ("simclr", "digits", "resnet9")
    assert config.views.flip_probability == 0  # a mirrored digit is another sign
    assert config.views.affine_probability == 1


@pytest.mark.parametrize(
    ("sets", "sizes"),
    [
        ([], (32, 24)),
        (["dataset.size=32"], (32, 24)),
        (["dataset.size=64"], (64, None)),
        (["dataset.size=64", "dataset.view_size=48"], (64, 48)),
        (["encoder.name=resnet9"], (32, 24)),
        (["encoder.name=resnet18"], (32, None)),
        (["encoder.name=timm/vit_tiny_patch16_224", "dataset.view_size=16"], (32, 16)),
    ],
)
def test_resolve__a_presets_small_views_go_with_its_size_and_encoder(
    sets: list[str], sizes: tuple[int, int | None]
) -> None:
    given = read_assignments(["dataset.name=cifar10", "dataset.data_dir=data", *sets])
    dataset = resolve(config=None, sets=given, flags={"device": "cpu"}).config.dataset
    assert (dataset.size, dataset.view_size) == sizes


def test_resolve__higher_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: {temperature: 0.3}\noptim: {lr: 1e-4, weight_decay: 1e-2}\nseed: 7\n")
    config = resolved(config=str(file), sets=["optim.lr=5e-4"], seed=9)
    assert config.method.temperature == 0.3  # type: ignore[attr-defined]
    assert config.optim.lr == 5e-4
    assert config.optim.weight_decay == 1e-2
    assert config.seed == 9


def test_resolve__an_option_for_the_length_replaces_the_other_of_a_lower_layer() -> None:
    own = resolved(dataset={"name": "cifar10"}).train
    assert own.budget == 900
    assert own.epochs is None
    by_epochs = resolved(dataset={"name": "cifar10"}, train={"epochs": 3}).train
    assert by_epochs.epochs == 3
    assert by_epochs.budget is None
    with pytest.raises(UsageError, match="exclude each other"):
        resolved(train={"epochs": 3, "budget": "1m"})


def test_resolve__another_encoder_replaces_the_shape_of_the_one_before(tmp_path: Path) -> None:
    own = resolved(dataset={"name": "cifar10"}).encoder
    assert (own.width, own.embedding_dim, own.init) == (16, 1024, "identity")
    fresh = EncoderConfig(name="resnet18")
    assert resolved(dataset={"name": "cifar10"}, encoder={"name": "resnet18"}).encoder == fresh
    assert resolved(config="cifar10-simclr-cpu", encoder={"name": "resnet18"}).encoder == fresh
    assert resolved(config="cifar10-simclr-cpu", sets=["encoder.name=resnet18"]).encoder == fresh
    assert resolved(dataset={"name": "cifar10"}, encoder={"name": "resnet9", "width": 8}).encoder == EncoderConfig(
        name="resnet9", width=8, embedding_dim=1024, init="identity"
    )
    file = tmp_path / "mine.yaml"
    file.write_text("encoder: {name: resnet50, stem: imagenet}\n")
    assert resolved(config=str(file), encoder={"name": "resnet50"}).encoder.stem == "imagenet"
    assert resolved(config=str(file), encoder={"name": "resnet18"}).encoder == fresh


def test_resolve__another_optimizer_replaces_what_the_one_before_was_set_to(tmp_path: Path) -> None:
    own = resolved(dataset={"name": "cifar10"}).optim
    assert (own.name, own.lr, own.momentum) == ("muon", 8e-3, 0.95)
    assert resolved(dataset={"name": "cifar10"}, optim={"name": "lars"}).optim == OptimConfig(name="lars")
    assert resolved(dataset={"name": "cifar10"}, optim={"name": "muon", "lr": 0.1}).optim == OptimConfig(
        name="muon", lr=0.1, momentum=0.95
    )
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {name: sgd, nesterov: true, warmup_fraction: 0.0, clip_gradient: 2.0}\n")
    assert resolved(config=str(file), sets=["optim.name=adam"]).optim == OptimConfig(
        name="adam", warmup_fraction=0.0, clip_gradient=2.0
    )


def test_resolve__another_method_takes_the_fields_that_it_has_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: {name: simclr, temperature: 0.3, projector_hidden: 64}\n")
    byol = resolved(config=str(file), method={"name": "byol"})
    assert (byol.method_name, byol.method.model_dump()["projector_hidden"]) == ("byol", 64)
    with pytest.raises(UsageError, match=r"unknown key 'method\.temperature'"):
        resolved(config=str(file), method={"name": "byol", "temperature": 0.2})
    byol = resolved(config="cifar10-simclr-cpu", method={"name": "byol"})
    assert byol.encoder.embedding_dim == 1024
    assert resolved(config="cifar10-simclr-cpu", method={"name": "simclr"}).method.model_dump()["temperature"] == 0.1


def test_resolve__a_field_that_says_nothing_of_the_encoder_is_refused() -> None:
    with pytest.raises(UsageError, match=r"encoder\.width is for resnet9, not for resnet18 \(given: 8\)"):
        resolved(encoder={"name": "resnet18", "width": 8})
    with pytest.raises(UsageError, match=r"encoder\.stem is for ResNets, not for resnet9"):
        resolved(sets=["encoder.stem=imagenet"])


def test_resolve__another_encoder_keeps_the_weights_of_a_lower_layer_to_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("encoder: {name: resnet18, weights: IMAGENET1K_V2}\n")  # which are ResNet-50's alone
    with pytest.raises(UsageError, match="IMAGENET1K_V2"):
        resolved(config=str(file), dataset={"name": "cifar10", "data_dir": "x"}, encoder={"name": "resnet34"})


def test_resolve__the_written_configuration_gives_the_same_again(tmp_path: Path) -> None:
    first = resolved(sets=["views.recipe=simclr", "views.hue=0.05"], dataset={"name": "cifar10"})
    assert first.views.blur_probability == 0.5
    assert first.views.hue == 0.05
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(first.model_dump(mode="json")))
    assert resolve(config=str(file), sets={}, flags={}).config == first


def test_resolve__the_recipe_fits_the_size() -> None:
    assert resolved(dataset={"name": "cifar10"}).views.blur_probability == 0
    assert resolved(dataset={"name": "stl10"}).views.blur_probability == 0.5
    assert resolved(dataset={"name": "stl10", "size": 32}).views.blur_probability == 0


@pytest.mark.parametrize(
    ("ratio", "scaling", "factor"), [(4, "none", 1.0), (4, "sqrt", 2.0), (4, "linear", 4.0), (1, "linear", 1.0)]
)
def test_peak_learning_rate__scales_with_the_batch(ratio: int, scaling: str, factor: float) -> None:
    config = resolved(sets=["optim.lr=0.01", f"optim.lr_scaling={scaling}"], train={"batch_size": 256 * ratio})
    assert config.peak_learning_rate == pytest.approx(0.01 * factor)
    assert config.optim.lr == 0.01  # what the user said stays


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90s", 90), ("15m", 900), ("1h30m", 5400), ("2h", 7200), ("45", 45), ("1.5m", 90)),
        *(("2d", 172_800), ("1w1d", 691_200)),
    ],
)
def test_parse_duration__reads(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["soon", "15 minutes", "-3m", "m15", "1h1d", "9" * 400 + "h"])
def test_parse_duration__refuses(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)

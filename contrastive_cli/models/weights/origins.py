"""Where the weights of an encoder come from, and what the encoder looks like and wants to see by that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from contrastive_cli.core.config import build, did_you_mean
from contrastive_cli.core.errors import DataError, RunError, UsageError
from contrastive_cli.core.files import at_home
from contrastive_cli.core.framing import IMAGENET_MEAN, IMAGENET_STD, EncoderInput, Framing
from contrastive_cli.core.runs import RUNS, Run
from contrastive_cli.models.encoders import ENCODERS, EncoderConfig, refuse_unknown_encoder
from contrastive_cli.models.resnet import RESNETS
from contrastive_cli.models.timm_encoders import (
    PREFIX,
    PUBLISHED,
    published_name,
    published_tags,
    read_timm_input,
    refuse_unknown,
    registered_input,
)
from contrastive_cli.models.weights.exported import exported_encoder, exported_input
from contrastive_cli.models.weights.files import WeightsFile, read_config, read_weights

RANDOM = "random"
IMAGENET_SIZE, IMAGENET_RESIZE = 224, 256
SMALL_SIZE = 32  # of the pictures that 3x3 stems are trained on by nearly everybody

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where weights come from.

    Attributes:
        kind: Weights that somebody publishes under a name, a file, or none.
        text: The name, or the absolute path of the file, folder or run.
        file: What is in it.
    """

    kind: Literal["published", "file", "random"]
    text: str
    file: WeightsFile | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """An encoder whose weights decide its shape: the configuration with nothing left open, and what it wants to see."""

    config: EncoderConfig
    input: EncoderInput
    origin: Origin


def find_origin(encoder: str, weights: str) -> Origin:
    """Find weights by what stands behind `--weights`: a published name, a path, a run below runs/, or `random`.

    Raises:
        UsageError: If it is none of these.
        DataError, UnsafeFileError, RunError: If the file cannot be read.
    """
    refuse_unknown_encoder(encoder)
    if weights == RANDOM:
        return Origin(kind="random", text=RANDOM)
    names = _published_names(encoder, weights)
    if weights in names:
        return Origin(kind="published", text=weights)
    path, run = at_home(Path(weights)).absolute(), (RUNS / weights).absolute()
    if weights and (path.exists() or (run / "manifest.json").is_file()):
        place = path if path.exists() else run
        return Origin(kind="file", text=str(place), file=read_weights(place))
    looks_like_path = "/" in weights or path.suffix in (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
    if looks_like_path:
        raise DataError(f"there are no weights {weights!r}", hint="give a file, a folder or a run", path=path)
    if not names:
        raise UsageError(
            f"{encoder} has no pretrained weights (given: {weights!r})", hint="give a file, a folder or a run"
        )
    raise UsageError(f"{encoder} has no weights {weights!r}{did_you_mean(weights, names)}", hint="or give a file")


def encoder_of_weights(weights: str) -> str:
    """The encoder that a run or a folder with a config.json says it holds.

    Raises:
        UsageError: If nothing says it, or it is a run without an encoder.
        DataError, RunError: If what should say it cannot be read.
    """
    run = _run_of(weights)
    if run is not None:
        manifest = run.manifest()
        if manifest.encoder == "none":
            raise UsageError(f"{run.path} has no encoder to begin with: {manifest.method} has none")
        return manifest.encoder
    path = at_home(Path(weights)).absolute()
    said = read_config(path / "config.json") if path.is_dir() else {}
    if (own := exported_encoder(said)) is not None:
        return own
    architecture = said.get("architecture")
    if not isinstance(architecture, str):
        raise UsageError(f"the weights {weights} do not say which encoder they are of", hint="add --encoder NAME")
    return architecture if architecture in ENCODERS else PREFIX + architecture


def _published_names(encoder: str, weights: str) -> list[str]:
    """The names of the published weights of an encoder; the library is asked only where it may be one."""
    if encoder.startswith(PREFIX):
        name = encoder.removeprefix(PREFIX)
        tags = published_tags(name)
        return [PUBLISHED, *tags] if tags else []
    if encoder in RESNETS and (_NAME.fullmatch(weights) or not Path(weights).exists()):
        from torchvision import models

        return [member.name for member in models.get_model_weights(encoder)]
    return []


def settle(config: EncoderConfig) -> Settled:
    """The shape that the weights of a configuration give its encoder, and what it wants to see.

    Raises:
        UsageError: If there are no such weights, or they are those of another encoder.
        DataError, UnsafeFileError, RunError: If the file cannot be read.
    """
    assert config.weights is not None, "there are weights"
    named = _run_of(config.weights)
    if named is not None and named.manifest().status == "imported":
        return _of_imported(config, named)
    origin = find_origin(config.name, config.weights)
    config = config.model_copy(update={"weights": origin.text})
    if origin.file is None:
        return Settled(config=_plain(config), input=_published_input(config), origin=origin)
    if origin.file.run is not None:
        return _of_run(config, origin)
    config = _shaped(config, origin.file)
    return Settled(config=config, input=_input_of_file(config, origin.file), origin=origin)


def _plain(config: EncoderConfig) -> EncoderConfig:
    """Published ResNets have the stem of ImageNet unless another is asked for."""
    if config.name in RESNETS and config.stem == "auto":
        return config.model_copy(update={"stem": "imagenet"})
    return config


def _run_of(weights: str) -> Run | None:
    """The run that weights name by its path or its name below runs/; None if they name none."""
    path = at_home(Path(weights)).absolute()
    places = (path, (RUNS / weights).absolute()) if weights and not path.is_file() else ()
    return next((Run(place) for place in places if (place / "manifest.json").is_file()), None)


def _encoder_of_run(run: Run, *, asked: str) -> EncoderConfig:
    own = build(EncoderConfig, run.config().get("encoder", {}))
    if own.name != asked:
        raise UsageError(f"{run.path} holds a {own.name}, not a {asked}", hint=f"give --encoder {own.name}")
    return own


def _of_imported(config: EncoderConfig, run: Run) -> Settled:
    """The encoder of a run that names its weights: those weights, and how the run prepares pictures for them."""
    own = _encoder_of_run(run, asked=config.name)
    if own.weights is None:
        raise RunError(f"the configuration of {run.path} names no weights", path=run.path)
    return Settled(config=own, input=_input_of_run(run), origin=find_origin(own.name, own.weights))


def _input_of_run(run: Run) -> EncoderInput:
    manifest = run.manifest()
    return EncoderInput(
        size=manifest.size,
        framing=manifest.framing,
        mean=manifest.mean,
        std=manifest.std,
        origin=f"the run {run.name}",
    )


def _of_run(config: EncoderConfig, origin: Origin) -> Settled:
    """The encoder of a run of this package, as the run describes it."""
    assert origin.file is not None, "a run has a file"
    run = origin.file.run
    assert run is not None, "it is that of a run"
    manifest = run.manifest()
    own = _encoder_of_run(run, asked=config.name)
    if own.name in RESNETS and own.stem == "auto":
        own = own.model_copy(update={"stem": "small" if manifest.size <= 64 else "imagenet"})
    found = own.model_copy(update={"weights": config.weights})
    return Settled(config=found, input=_input_of_run(run), origin=origin)


def _shaped(config: EncoderConfig, file: WeightsFile) -> EncoderConfig:
    """The stem of a ResNet, or the widths of a resnet9, as the tensors of the file say."""
    shapes = {name: tuple(tensor.shape) for name, tensor in file.tensors.items()}

    def shape_of(*keys: str) -> tuple[int, ...] | None:
        ends = [shape for key in keys for name, shape in shapes.items() if f".{name}".endswith(f".{key}")]
        return next((shape for shape in ends if len(shape) == 4), None)

    if config.name == "resnet9":
        first, last = shape_of("layers.0.0.weight"), shape_of("layers.9.0.weight")
        if first is None:
            return config
        return config.model_copy(
            update={"width": first[0], "embedding_dim": None if last is None else last[0], "stem": "auto"}
        )
    if config.name in RESNETS and config.stem == "auto":
        stems = [shape for name, shape in shapes.items() if _is_stem(name) and len(shape) == 4]
        is_small = bool(stems) and stems[0][2:] == (3, 3)
        is_solo = is_small and file.from_lightning and any(name.endswith("backbone.conv1.weight") for name in shapes)
        is_lightly = is_small and any(f".{name}".endswith(".2.0.conv1.weight") for name in shapes)
        stem = "small-padded" if is_solo else "small-linear" if is_lightly else "small" if is_small else "imagenet"
        return config.model_copy(update={"stem": stem})
    return config


def _is_stem(name: str) -> bool:
    parts = name.split(".")
    inside = any(part.startswith(("layer", "blocks")) for part in parts)
    return not inside and parts[-2:] in (["conv1", "weight"], ["0", "weight"])


def _published_input(config: EncoderConfig) -> EncoderInput:
    name, weights = config.name, config.weights or RANDOM
    if name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
        refuse_unknown(name)
        return registered_input(name if weights == RANDOM else published_name(name, weights))
    if weights == RANDOM:
        return _usual_input(config)
    from torchvision import models

    seen: Any = models.get_model_weights(name)[weights].transforms()
    return EncoderInput(
        size=seen.crop_size[0],
        framing=Framing(resize=seen.resize_size[0], interpolation=seen.interpolation.value),
        mean=tuple(seen.mean),
        std=tuple(seen.std),
        origin=f"torchvision's transforms of {weights}",
    )


def _input_of_file(config: EncoderConfig, file: WeightsFile) -> EncoderInput:
    if (exported := exported_encoder(file.config)) is not None:
        if exported != config.name:
            raise UsageError(f"{file.path} holds a {exported}, not a {config.name}", hint=f"give --encoder {exported}")
        return exported_input(file.config, origin=f"config.json beside {file.path.name}")
    found = file.config.get("pretrained_cfg")
    architecture = file.config.get("architecture")
    own = config.name.removeprefix(PREFIX).partition(".")[0]
    if isinstance(architecture, str) and architecture.partition(".")[0] != own:
        known = architecture if architecture in ENCODERS else PREFIX + architecture
        raise UsageError(f"{file.path} holds a {architecture}, not a {own}", hint=f"give --encoder {known}")
    if isinstance(found, dict):
        return read_timm_input(found, origin=f"config.json beside {file.path.name}")
    if config.name.startswith(PREFIX):
        return registered_input(config.name.removeprefix(PREFIX))
    return _usual_input(config)


def _usual_input(config: EncoderConfig) -> EncoderInput:
    """What nearly everybody shows an encoder of this shape, where nothing says it."""
    if config.name in RESNETS and config.stem in ("auto", "imagenet"):
        size, framing = IMAGENET_SIZE, Framing(resize=IMAGENET_RESIZE, interpolation="bilinear")
    else:
        size, framing = SMALL_SIZE, None
    origin = f"assumed, as nothing says it: what is usual for {config.name} of this stem"
    return EncoderInput(size=size, framing=framing, mean=IMAGENET_MEAN, std=IMAGENET_STD, origin=origin)

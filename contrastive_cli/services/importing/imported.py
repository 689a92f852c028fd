"""A run made of an encoder that exists already, so that every command knows runs only.

`--encoder NAME --weights ...` of the commands reaches this module. The run holds no copy of the weights: it names them
with their sha256, and how pictures are prepared for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from contrastive_cli.core.config import Config, Tree, build
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.framing import EncoderInput
from contrastive_cli.core.manifest import DatasetFacts, Manifest, WeightsFacts
from contrastive_cli.core.notes import note
from contrastive_cli.core.provenance import command_line, git_revision, versions
from contrastive_cli.core.runs import RUNS, Run, create_run, now
from contrastive_cli.data.datasets import NO_DATASET
from contrastive_cli.methods import IMPORTED
from contrastive_cli.models.encoders import EncoderConfig
from contrastive_cli.models.timm_encoders import PREFIX, PUBLISHED
from contrastive_cli.models.weights.loading import load_encoder
from contrastive_cli.models.weights.origins import Settled, encoder_of_weights, settle
from contrastive_cli.services.configuration import PretrainConfig, config_model
from contrastive_cli.services.encoder_input import PreprocessConfig, with_input

SEED = 0  # of random weights, which are a baseline
LONGEST_NAME = 60
MOST_OF_A_NAME = 1000


class _Asked(Config):
    """What `--set` may say of an encoder that is imported."""

    dataset: dict[str, int] = Field(default_factory=dict)
    encoder: dict[str, Any] = Field(default_factory=dict)
    preprocess: PreprocessConfig = PreprocessConfig()


def imported_run(
    encoder: str | None, weights: str | None = None, *, sets: Tree | None = None, runs_dir: Path = RUNS
) -> Path:
    """The run of an encoder with these weights, made now or found where it was made before.

    Args:
        encoder: resnet9, resnet18, resnet34, resnet50 or timm/NAME, with timm's tag or without; None takes the one that
            the weights say they are of, as a run and a folder with a config.json do.
        weights: A published name, a file, a folder, a run, or "random"; None only where the name has a tag.
        sets: A tree of `dataset.size`, `preprocess.*` and `encoder.*` that a person says.
        runs_dir: The folder that runs lie in.

    Returns:
        The directory of the run, whose status is `imported`.

    Raises:
        UsageError: If there is no such encoder, or no weights are named, or none says which encoder it is.
        DataError: If the weights cannot be had, or are not all of the encoder.
        UnsafeFileError: If reading them could run code.
        RunError: If the run cannot be written.
    """
    if encoder is None:
        assert weights is not None, "one of the two is named"
        encoder = encoder_of_weights(weights)
    asked = build(_Asked, sets or {})
    if asked.dataset.keys() - {"size"}:
        raise UsageError("of an imported encoder only dataset.size can be set, not the images")
    named = {"name": encoder, "weights": _named_weights(encoder, weights)}
    settled = settle(build(EncoderConfig, {**asked.encoder, **named}))
    preprocess, size = with_input(asked.preprocess, settled.input, size=asked.dataset.get("size"))
    tree = {
        "method": {"name": IMPORTED},
        "dataset": {"name": NO_DATASET, "size": size},
        "encoder": settled.config.model_dump(),
        "preprocess": preprocess.model_dump(),
        "views": {},
        "seed": SEED,
    }
    return _place(build(config_model(IMPORTED), tree), settled, runs_dir=runs_dir)


def _named_weights(encoder: str, weights: str | None) -> str:
    if weights is not None:
        return weights
    if encoder.startswith(PREFIX) and "." in encoder:
        return PUBLISHED
    hint = "a name such as IMAGENET1K_V2, a file or folder, a run; or random, which is a baseline"
    if encoder.startswith(PREFIX):
        hint = f"{PUBLISHED}, a tag of timm's, a file or folder, a run; or random, which is a baseline"
    raise UsageError(f"--encoder {encoder} alone has no weights; add --weights", hint=hint)


def _place(config: PretrainConfig, settled: Settled, *, runs_dir: Path) -> Path:
    """The run of this very encoder below a folder, or a new one."""
    base = runs_dir / _run_name(settled)
    for number in range(1, MOST_OF_A_NAME):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if (path / "manifest.json").is_file():
            if _is_same(Run(path), config, settled):
                return path
            continue
        if not Run(path).is_empty():
            continue
        return _write(path, config, settled)
    raise RunError(f"there are too many runs named like {base}", path=base)


def _run_name(settled: Settled) -> str:
    config, origin = settled.config, settled.origin
    encoder = config.name.removeprefix(PREFIX)
    place = Path(origin.text)
    source = place.name if origin.file is None or place.is_dir() else place.stem
    words = encoder if origin.kind == "published" and source == PUBLISHED and "." in encoder else f"{encoder}-{source}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words).strip("._-")[:LONGEST_NAME] or "encoder"


def _is_same(run: Run, config: PretrainConfig, settled: Settled) -> bool:
    try:
        manifest = run.manifest()
        if manifest.status != "imported" or manifest.weights is None:
            return False
        file = settled.origin.file
        same_weights = file is None or file.sha256 == manifest.weights.sha256
        known, wanted = run.config(), config.model_dump(mode="json")
        return same_weights and all(known.get(key) == wanted[key] for key in ("encoder", "preprocess", "dataset"))
    except (RunError, UsageError):
        return False


def _write(path: Path, config: PretrainConfig, settled: Settled) -> Path:
    size, mean = config.dataset.size, config.preprocess.mean
    assert size is not None, "it was filled in"
    assert mean is not None, "it was filled in"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        _, facts = load_encoder(settled.config, channels=len(mean), size=size, origin=settled.origin)
    run, _ = create_run(path, overwrite=False)
    with run.locked():
        run.write_config(config)
        run.write_manifest(_manifest(config, facts, settled.input))
        run.update(status="imported")  # with the entry of the configuration
    note(f"{config.encoder.name}: {facts.describe()}")
    note(f"it sees {describe_input(config)} ({config.preprocess.origin}) -> {path}")
    return path


def _manifest(config: PretrainConfig, facts: WeightsFacts, seen: EncoderInput) -> Manifest:
    size, started = config.dataset.size or seen.size, now()
    return Manifest(
        status="imported",
        method=IMPORTED,
        encoder=config.encoder.name,
        dataset=DatasetFacts(name=NO_DATASET, split=NO_DATASET, count=0, fingerprint=""),
        seed=SEED,
        device="cpu",
        precision="fp32",
        threads=torch.get_num_threads(),
        total_steps=0,
        mean=config.preprocess.mean or seen.mean,
        std=config.preprocess.std or seen.std,
        size=size,
        framing=config.preprocess.framing(size),
        weights=facts.model_copy(update={"preprocessing": config.preprocess.origin or ""}),
        started=started,
        ended=now(),
        command=command_line(),
        versions=versions(),
        git=git_revision(),
    )


def describe_input(config: PretrainConfig) -> str:
    """What an encoder sees, in words."""
    size = config.dataset.size or 0
    framing = config.preprocess.framing(size)
    text = f"{size} x {size} pixels"
    if framing is not None:
        side = "the shorter side" if framing.rule == "shorter" else "both sides"
        text += f" from the center, {side} resized to {framing.resize} ({framing.interpolation})"
    numbers: Mapping[str, tuple[float, ...] | None] = {"mean": config.preprocess.mean, "std": config.preprocess.std}
    return text + "".join(f", {name} {', '.join(f'{x:g}' for x in found)}" for name, found in numbers.items() if found)

"""Finetuning: a run's encoder and a fresh linear classifier, trained together on a part of the labels.

`clr finetune` reaches this module. After SimCLR's semi-supervised protocol (Chen et al. 2020,
https://arxiv.org/abs/2002.05709, appendix B.5): the projector is dropped, SGD with Nesterov momentum, no warm-up,
light augmentation. Unlike it: no LARS, the cosine goes to zero, and rate 0.2 * batch / 256 (theirs 0.05), weight
decay 5e-4 (theirs 0) and forty passes (theirs sixty at 1 %, thirty at 10 %): with the paper's rate and no decay small
encoders end below a linear head on their frozen features (`python -m benchmarks.finetuning`).
The result is a run of its own, of method `supervised`, whose manifest names the parent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.config import Tree, merge, read_preset
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.manifest import ParentFacts
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.embeddings.label_split import confidence_interval
from contrastive_cli.engine.device import images_per_pass, memory_errors
from contrastive_cli.engine.precision import Precision, autocast
from contrastive_cli.methods import load_method
from contrastive_cli.services.configuration import DatasetConfig, PretrainConfig, light_recipe, name_of, resolve
from contrastive_cli.services.embedding import Model, load_model, open_split
from contrastive_cli.services.label_records import indices_sha256
from contrastive_cli.services.records import write_result
from contrastive_cli.services.sessions import Inherited, Session, start_session
from contrastive_cli.services.splits import refuse_moved_split
from contrastive_cli.services.trainee import labelled_subset
from contrastive_cli.views.augment import prepare

BATCH = 128
EPOCHS = 40.0
LEAST_STEPS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Finetuned:
    """Accuracy in [0, 1] of a finetuned run on the test split, Wilson's 95 % interval, and what it was measured on."""

    accuracy: float
    ci95: tuple[float, float]
    dataset: str
    test_images: int
    label_fraction: float
    labels: int
    train_split: str
    train_indices: list[int]
    train_indices_sha256: str
    fingerprints: list[str]
    parent: dict[str, str] | None
    checkpoint: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json` and the result file."""
        return asdict(self)


def finetune_session(
    run: Run,
    *,
    config: str | None,
    sets: Tree,
    flags: Tree,
    out: Path | None,
    overwrite: bool,
    progress: CountProgress | None = None,
) -> Session:
    """Make the run that trains on from `run`; nothing is written before all that can be refused is known.

    Raises:
        UsageError: If the parent has no encoder, or method or encoder are to be changed.
        DataError: If the images have no labels or other channels, or train and test share no class.
        RunError: If the parent has no checkpoint, or the new directory cannot be made.
    """
    name = run.manifest().method
    if not load_method(name).has_encoder:
        raise UsageError(
            f"{run.name} was trained by {name}, which has no encoder, so there is nothing to finetune",
            hint="`clr linear-eval` measures its embeddings",
        )
    parent = load_model(run, device="cpu")
    preset = read_preset(config) if config else {}
    resolved = resolve(config=config, sets=sets, flags=flags, defaults=_defaults(parent, preset, sets, flags)).config
    if resolved.method_name != "supervised":
        raise UsageError(f"clr finetune trains by method supervised, not {resolved.method_name}")
    if resolved.encoder != parent.config.encoder.model_copy(update={"weights": None}):
        raise UsageError(f"the encoder is that of {run.name} and cannot change", hint="leave out encoder.*")
    train = _check_images(parent, resolved, progress=progress)
    given = [merge(preset, sets), flags]
    has_length = any(layer.get("train", {}).get(key) is not None for layer in given for key in ("epochs", "budget"))
    resolved = _fit_to_labels(resolved, num_labels=_num_labels(resolved, train), has_length=has_length)
    checkpoint = {"run": run.name, "path": str(run.path.absolute()), "checkpoint": parent.checkpoint}
    inherited = Inherited(facts=ParentFacts(**checkpoint), encoder=parent.method.encoder.state_dict())
    return start_session(resolved, out=out, overwrite=overwrite, progress=progress, inherited=inherited)


def evaluate_finetuned(run: Run, *, device: str, progress: CountProgress | None = None) -> tuple[Finetuned, Path]:
    """Classify the test split once, and write `eval/finetune-<dataset>.json` with the images that were trained on."""
    model = load_model(run, device=device)
    split = find_dataset(model.config.dataset.name).pretrain_split
    train, test = (open_split(model, name) for name in (split, "test"))
    known = np.flatnonzero(test.labels >= 0)
    predicted = predict_classes(
        model.method,
        test.images,
        size=model.manifest.size,
        mean=model.manifest.mean,
        std=model.manifest.std,
        device=model.device,
        precision=model.precision,
        progress=progress,
    )
    correct = int((predicted[known] == test.labels[known]).sum())
    subset = labelled_subset(model.config, train)
    indices = list(range(train.num_samples)) if subset is None else subset.tolist()
    parent = model.manifest.parent
    result = Finetuned(
        accuracy=correct / len(known),
        ci95=confidence_interval(correct, len(known)),
        dataset=test.name,
        test_images=len(known),
        label_fraction=model.config.train.label_fraction,
        labels=len(indices),
        train_split=train.split,
        train_indices=indices,
        train_indices_sha256=indices_sha256(np.array(indices)),
        fingerprints=[train.fingerprint, test.fingerprint],
        parent=None if parent is None else parent.model_dump(),
        checkpoint=model.checkpoint,
    )
    return result, write_result(run, f"finetune-{test.name}", result.as_json())


def predict_classes(
    method: Any,
    pixels: NDArray[np.uint8],
    *,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    precision: Precision,
    progress: CountProgress | None = None,
) -> NDArray[np.int64]:
    """uint8 [N, C, H, W] -> the likeliest class [N] of a `Classifying` method, which is left in evaluation mode."""
    method.eval()
    parts, at_once = [], images_per_pass(device, size)
    with memory_errors(device, batch_size=at_once), torch.no_grad(), autocast(device, precision):
        for start in range(0, len(pixels), at_once):
            chunk = torch.from_numpy(np.array(pixels[start : start + at_once])).to(device)
            images = prepare(chunk, size=size, mean=mean, std=std)
            parts.append(method.classify(images).argmax(1).cpu())
            if progress is not None:
                progress(start + len(chunk), len(pixels))
    return torch.cat(parts).numpy()


def _defaults(parent: Model, *layers: Mapping[str, Any]) -> Tree:
    """What a finetuning has where none of the layers, the lowest first, says otherwise."""
    own = parent.config.dataset
    name = own.name
    for layer in layers:
        name = name_of(layer, "dataset", name)
    dataset = own if name == own.name else DatasetConfig(name=name)
    return {
        "method": {"name": "supervised"},
        "dataset": {**dataset.model_dump(mode="json"), "size": parent.manifest.size, "view_size": None},
        "encoder": {**parent.config.encoder.model_dump(), "weights": None},
        "views": {"recipe": light_recipe(name, size=parent.manifest.size)},
        "optim": {
            "name": "sgd",
            "momentum": 0.9,
            "nesterov": True,
            "lr": 0.2,
            "lr_scaling": "linear",
            "weight_decay": 5e-4,
            "warmup_fraction": 0.0,
        },
        "train": {"batch_size": BATCH, "epochs": EPOCHS, "evaluations": 4},
    }


def _check_images(parent: Model, config: PretrainConfig, *, progress: CountProgress | None) -> ImageSet:
    chosen = config.dataset
    split = find_dataset(chosen.name).pretrain_split
    train = open_split(parent, split, dataset=chosen, progress=progress)
    test = open_split(parent, "test", dataset=chosen, progress=progress)
    for images in (train, test):
        if not images.has_labels:
            raise DataError(f"split {images.split} of {images.name} has no labels, so nothing can be finetuned on it")
    if not np.isin(test.labels[test.labels >= 0], train.labels).any():
        raise DataError(f"no class of the test split of {chosen.name} occurs in train, so no classifier can be tested")
    refuse_moved_split(parent, train, dataset=chosen)
    return train


def _num_labels(config: PretrainConfig, train: ImageSet) -> int:
    subset = labelled_subset(config, train)
    return train.num_samples if subset is None else len(subset)


def _fit_to_labels(config: PretrainConfig, *, num_labels: int, has_length: bool) -> PretrainConfig:
    """A batch of at most the labels; without a length, `EPOCHS` passes, and as many more as make 300 steps."""
    batch_size = min(config.batch_size, num_labels)
    changes: dict[str, Any] = {"batch_size": batch_size}
    if not has_length:
        changes |= {"epochs": max(EPOCHS, math.ceil(LEAST_STEPS / (num_labels // batch_size))), "budget": None}
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})

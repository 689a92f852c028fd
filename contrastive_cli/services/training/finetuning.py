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
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_cli.core.config import Tree, merge, read_preset
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.manifest import ParentFacts
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress, Say, silent
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.data.own_datasets import with_named_dataset
from contrastive_cli.methods import load_method
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.services.configuration import PretrainConfig, resolve
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.model import Model, load_model
from contrastive_cli.services.inference.splits import (
    note_equal_images,
    open_split,
    open_test_split,
    refuse_moved_split,
    require_labels,
)
from contrastive_cli.services.option_trees import light_recipe, name_of
from contrastive_cli.services.training.batches import labeled_subset
from contrastive_cli.services.training.sessions import InheritedWeights, Session, start_session

BATCH = 128
EPOCHS = 40.0
LEAST_STEPS = 300


def finetune_session(
    run: Run,
    *,
    config: str | None,
    sets: Tree,
    flags: Tree,
    out: Path | None,
    overwrite: bool,
    progress: CountProgress | None = None,
    say: Say = silent,
    began: float | None = None,
) -> Session:
    """Make the run that trains on from `run`; nothing is written before all that can be refused is known.

    Raises:
        UsageError: If the parent has no encoder, or method or encoder are to be changed.
        DataError: If the images have no labels or other channels, or train and test share no class.
        RunError: If the parent has no checkpoint, or the new directory cannot be made.
    """
    sets, flags = with_named_dataset(sets), with_named_dataset(flags)
    name = run.manifest().method
    if not load_method(name).has_encoder:
        raise UsageError(
            f"{run.name} was trained by {name}, which has no encoder, so there is nothing to finetune",
            hint="`clr linear-eval` measures its embeddings",
        )
    began = time.monotonic() if began is None else began
    say(f"opening the encoder of {run.name} and the images")
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
    inherited = InheritedWeights(facts=ParentFacts(**checkpoint), encoder=encoder_of(parent.method).state_dict())
    return start_session(
        resolved, out=out, overwrite=overwrite, progress=progress, say=say, inherited=inherited, began=began
    )


def _defaults(parent: Model, *layers: Mapping[str, Any]) -> Tree:
    """What a finetuning has where none of the layers, the lowest first, says otherwise."""
    own = parent.config.dataset
    name = own.name
    for layer in layers:
        name = name_of(layer, "dataset", name)
    dataset = own if name == own.name else DatasetConfig(name=name)
    manifest = parent.manifest
    sizes = {"size": manifest.size, "view_size": None}
    framing = {} if manifest.framing is None else manifest.framing.model_dump()
    seen = {**framing, "mean": manifest.mean, "std": manifest.std, "origin": f"the run {parent.run.name}"}
    return {
        "method": {"name": "supervised"},
        "dataset": {**dataset.model_dump(mode="json"), **sizes, "range": parent.manifest.range},
        "encoder": {**parent.config.encoder.model_dump(), "weights": None},
        "preprocess": seen,
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
    test = open_test_split(parent, dataset=chosen, progress=progress)
    for images in (train, test):
        require_labels(images, purpose="finetuned on it")
    if not np.isin(test.labels[test.labels >= 0], train.labels).any():
        raise DataError(f"no class of the test split of {chosen.name} occurs in train, so no classifier can be tested")
    refuse_moved_split(parent, train, dataset=chosen)
    note_equal_images(train, test)
    return train


def _num_labels(config: PretrainConfig, train: ImageSet) -> int:
    subset = labeled_subset(config, train)
    return train.num_samples if subset is None else len(subset)


def _fit_to_labels(config: PretrainConfig, *, num_labels: int, has_length: bool) -> PretrainConfig:
    """A batch of at most the labels; without a length, `EPOCHS` passes, and as many more as make 300 steps."""
    batch_size = min(config.batch_size, num_labels)
    changes: dict[str, Any] = {"batch_size": batch_size}
    if not has_length:
        changes |= {"epochs": max(EPOCHS, math.ceil(LEAST_STEPS / (num_labels // batch_size))), "budget": None}
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})

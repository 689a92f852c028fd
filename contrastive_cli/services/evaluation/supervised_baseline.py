"""The supervised baseline: the run's encoder from fresh weights, trained on the same labels that the heads are given.

So that the comparison is fair it has light augmentation, as many steps as the labels call for, and its weight decay and
learning rate chosen for each number of labels on a fifth of the labeled images; then it is trained on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.core.config import Tree
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import CountProgress, Method
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.loader import DeviceImages
from contrastive_cli.embeddings.probes.label_subsets import stratified_folds
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.engine.optim import build_optimizer
from contrastive_cli.methods import load_method
from contrastive_cli.services.configuration import build_method, resolve
from contrastive_cli.services.evaluation.rows import Row, Splits, make_row
from contrastive_cli.services.inference.classes import predict_classes
from contrastive_cli.services.inference.model import Model
from contrastive_cli.services.option_trees import light_recipe
from contrastive_cli.services.training.setup import TrainingSetup, image_facts
from contrastive_cli.services.training.started_encoder import preprocessing_of
from contrastive_cli.services.training.steps import train_steps
from contrastive_cli.views.preprocessing import Preprocessing

BATCH = 128
EPOCHS = 15
LEAST_STEPS, MOST_STEPS = 500, 8000
FOLDS = 5  # one of them held out for the choice
CANDIDATES: tuple[Tree, ...] = (
    {"name": "adamw", "lr": 2e-3, "weight_decay": 1e-4},
    {"name": "adamw", "lr": 2e-3, "weight_decay": 0.1},
    {"name": "sgd", "lr": 0.1, "lr_scaling": "linear", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedTraining:
    """One training from fresh weights: `label_fraction` and `seed` say which labels, `steps` how long."""

    label_fraction: float
    seed: int
    indices: Tensor
    steps: int


def plan_supervised(
    model: Model, splits: Splits, *, fractions: Sequence[float], seeds: int
) -> list[SupervisedTraining]:
    """The trainings behind the rows, without those that choose the optimizer.

    Raises:
        UsageError: If the run's method has no encoder.
    """
    if not load_method(model.manifest.method).has_encoder:
        raise UsageError(
            f"--baseline supervised trains the run's encoder, and {model.manifest.method} has none",
            hint="leave supervised out",
        )
    return [
        SupervisedTraining(label_fraction=fraction, seed=seed, indices=chosen, steps=num_steps(len(chosen)))
        for fraction in fractions
        for seed, chosen in enumerate(splits.subsets(fraction, seeds=seeds))
    ]


def num_steps(num_labels: int) -> int:
    """Fifteen passes over the labels, but 500 steps of 128 at least and 8000 at most."""
    return min(MOST_STEPS, max(LEAST_STEPS, EPOCHS * num_labels // BATCH))


def total_steps(trainings: Sequence[SupervisedTraining]) -> int:
    """Optimizer steps of all trainings, with those that choose the optimizer of each label fraction."""
    return sum(training.steps * (1 + len(CANDIDATES) * (training.seed == 0)) for training in trainings)


def supervised_rows(
    model: Model, splits: Splits, *, trainings: Sequence[SupervisedTraining], progress: CountProgress | None = None
) -> Iterator[Row]:
    """Train for every number of labels and seed, and yield a row for each number of labels.

    The optimizer is chosen on the first seed's labels, and serves the others.

    Args:
        model: The run whose encoder, image size and device are taken, not its weights.
        splits: Train and test.
        trainings: From `plan_supervised`.
        progress: Called with (steps done, steps in all).
    """
    done, work = 0, total_steps(trainings)

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, work)

    for fraction in dict.fromkeys(training.label_fraction for training in trainings):
        own = [training for training in trainings if training.label_fraction == fraction]
        optim = _choose_optimizer(model, splits.train, own[0], count=count)
        predictions = []
        for training in own:
            method = _train(model, splits.train, training, optim=optim, count=count)
            predictions.append(torch.from_numpy(_predict(model, method, splits.train, splits.test))[splits.tested])
        yield make_row(
            splits,
            features="supervised",
            head="supervised",
            fraction=fraction,
            predictions=predictions,
            labels=len(own[0].indices),
        )


def _choose_optimizer(
    model: Model, train: ImageSet, training: SupervisedTraining, *, count: Callable[[], None]
) -> Tree:
    labels = torch.from_numpy(train.labels)[training.indices]
    out = stratified_folds(labels, num_folds=FOLDS, seed=training.seed) == 0
    held_out, kept = training.indices[out], training.indices[~out]
    accuracies = []
    for optim in CANDIDATES:
        method = _train(model, train, replace(training, indices=kept), optim=optim, count=count)
        predicted = _predict(model, method, train, train, positions=held_out)
        accuracies.append(float((torch.from_numpy(predicted) == labels[out]).float().mean()) if len(held_out) else 0.0)
    return CANDIDATES[accuracies.index(max(accuracies))]


def _train(
    model: Model, train: ImageSet, training: SupervisedTraining, *, optim: Tree, count: Callable[[], None]
) -> Method:
    size = model.manifest.size
    tree = {
        "method": {"name": "supervised"},
        "dataset": {"name": train.name, "size": size},
        "encoder": {**model.config.encoder.model_dump(), "weights": None},
        "preprocess": model.config.preprocess.model_dump(),
        "views": {"recipe": light_recipe(train.name, size=size)},
        "optim": optim,
        "train": {"epochs": 1.0, "batch_size": max(2, min(BATCH, len(training.indices)))},
        "seed": training.seed,
        "device": str(model.device),
    }
    config = resolve(config=None, sets={}, flags={}, defaults=tree).config
    torch.manual_seed(training.seed)
    preprocessing = preprocessing_of(config, train)
    channels = len(preprocessing.mean)
    method = build_method(config, image_facts(train, size=size, channels=channels))
    method.to(device=model.device, memory_format=torch.channels_last).train()
    setup = TrainingSetup(
        config=config,
        images=train,
        source=DeviceImages(train.images, device=model.device, channels=channels),
        preprocessing=preprocessing,
        method=method,
        optimizer=build_optimizer(method, config.optim, lr=config.peak_learning_rate),
        device=model.device,
        precision=model.precision,
        subset=training.indices,
    )
    with memory_errors(model.device, batch_size=config.batch_size):
        for _ in train_steps(setup, first_step=0, total_steps=training.steps):
            count()
    return method


def _preprocessing(model: Model, train: ImageSet) -> Preprocessing:
    """That of the run where it came with the encoder, else as measured on the images that are trained on."""
    own, size = model.config.preprocess, model.manifest.size
    return Preprocessing(size=size, mean=own.mean or train.mean, std=own.std or train.std)


def _predict(
    model: Model, method: Method, train: ImageSet, images: ImageSet, *, positions: Tensor | None = None
) -> NDArray[np.int64]:
    pixels = images.images if positions is None else np.asarray(images.images[positions.numpy()])
    if not len(pixels):
        return np.zeros(0, np.int64)
    return predict_classes(
        method,
        pixels,
        preprocessing=_preprocessing(model, train),
        device=model.device,
        precision=model.precision,
    )

"""Trainings of a few steps that the processes of a pool do together."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import TrainingError, UsageError
from contrastive_cli.engine.distributed import process_rank
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.same_everywhere import refuse_other_state, state_digest
from contrastive_cli.services.training.sessions import start_session
from contrastive_cli.services.training.setup import set_up_training
from contrastive_cli.services.training.steps import train_steps

SMALL = {
    "encoder.name": "resnet9",
    "encoder.width": 4,
    "encoder.embedding_dim": 16,
    "dataset.size": 8,
    "device": "cpu",
    "train.precision": "fp32",
    "train.batch_size": 26,
    "train.micro_batch_size": 5,
    "train.epochs": 1,
}
NO_ENCODER = {key: value for key, value in SMALL.items() if not key.startswith("encoder.")}


def train_some(settings: dict[str, Any], steps: int = 4) -> dict[str, Any]:
    """The digest of the state after some steps, the losses and metrics of each, and all weights and buffers."""
    setup = set_up_training(resolve(config=None, sets=nested(settings), flags={}).config)
    records = list(train_steps(setup, first_step=0, total_steps=steps))
    refuse_other_state(setup, step=steps)
    lines = [
        [float(record.loss), *(float(value) for value in record.metrics.values()), *record.metrics]
        for record in records
    ]
    weights: dict[str, Tensor] = {name: value.clone().numpy() for name, value in setup.method.state_dict().items()}
    return {"digest": state_digest(setup), "lines": lines, "weights": weights}


def train_from_the_loop(settings: dict[str, Any], folder: str) -> str:
    """What ends the training of a run within an epoch; nothing if it gets there."""
    config = resolve(config=None, sets=nested(settings), flags={}).config
    try:
        for _ in train_session(start_session(config, out=Path(folder), overwrite=False)):
            pass
    except (TrainingError, UsageError) as error:
        return error.message
    return ""


def keeps_hidden_state(what: str) -> str:
    """What is said of a process that has other weights, or has drawn from torch's generator."""
    setup = set_up_training(resolve(config=None, sets=nested(SMALL), flags={}).config)
    if process_rank() == 1:
        if what == "weights":
            next(iter(setup.method.parameters())).data.view(-1)[0] += 1e-6
        elif what == "random":
            torch.rand(1)
    try:
        refuse_other_state(setup, step=1)
    except TrainingError as error:
        return error.message
    return ""


def views_digest(settings: dict[str, Any], step: int) -> str:
    """Of everything that a step's batch holds."""
    from contrastive_cli.services.training.steps import Batches

    setup = set_up_training(resolve(config=None, sets=nested(settings), flags={}).config)
    batch = Batches(setup).part(step, slice(0, setup.config.batch_size))
    digest = hashlib.sha256()
    for tensor in (*batch.views, batch.indices):
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

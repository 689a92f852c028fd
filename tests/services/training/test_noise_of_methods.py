"""A step of a method that draws is the same whatever torch's generators hold, and however it is cut into passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from contrastive_cli.core.config import nested
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.training.setup import set_up_training
from contrastive_cli.services.training.steps import train_steps

SMALL = {
    "encoder.width": 4,
    "encoder.embedding_dim": 16,
    "dataset.size": 16,
    "device": "cpu",
    "train.precision": "fp32",
    "train.batch_size": 12,
    "train.epochs": 1,
}
DRAWING: list[dict[str, Any]] = [
    {"method.name": "vae"},
    {"method.name": "autoencoder", "method.noise": 0.5},
    {"method.name": "regularized", "method.slices": 8},
    {"method.name": "regularized", "method.slices": 8, "train.micro_batch_size": 4},
    {"method.name": "prob-simclr", "method.loss": "mc-infonce"},
    {"method.name": "prob-simclr", "method.loss": "mc-infonce", "train.micro_batch_size": 4},
]


@pytest.mark.parametrize("settings", DRAWING)
def test_train_steps__draws_of_methods_move_no_generator(settings: dict[str, Any]) -> None:
    config = resolve(config=None, sets={}, flags=nested({**SMALL, **settings})).config
    losses = []
    for seed in (1, 2):
        setup = set_up_training(config)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        losses.append([record.loss.item() for record in train_steps(setup, first_step=0, total_steps=2)])
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1]

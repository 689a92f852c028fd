"""How long a step takes is told from a few, also where the first one of a size takes much longer than the others."""

from __future__ import annotations

import time
from typing import Any

import pytest
from torch import nn

from contrastive_cli.core.config import nested
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.training.plan import timed_steps
from contrastive_cli.services.training.setup import TrainingSetup, set_up_training

BATCH = 64
SMALL = {
    "encoder.name": "resnet9",
    "encoder.width": 4,
    "dataset.size": 8,
    "device": "cpu",
    "train.batch_size": BATCH,
    "train.epochs": 1,
}


def costly(*, of_an_image: float, of_a_size: float) -> TrainingSetup:
    """A training whose passes take so many seconds for each image, and for each size of a batch the first time."""
    setup = set_up_training(resolve(config=None, sets=nested(SMALL), flags={}).config)
    seen = set()

    def cost(_: nn.Module, inputs: Any, __: Any) -> None:
        count = len(inputs[0])
        time.sleep(count * of_an_image / 2 + (0.0 if count in seen else of_a_size))
        seen.add(count)

    encoder_of(setup.method).register_forward_hook(cost)
    return setup


@pytest.mark.parametrize("of_a_size", [0.0, 0.1])
def test_timed_steps__what_is_prepared_once_is_not_a_part_of_a_step(of_a_size: float) -> None:
    seconds, images = timed_steps(costly(of_an_image=0.001, of_a_size=of_a_size), limit=1.5)
    assert images == BATCH
    assert BATCH * 0.001 < seconds < 0.3


def test_timed_steps__a_slow_step_is_told_from_a_few_images() -> None:
    started = time.monotonic()
    seconds, images = timed_steps(costly(of_an_image=0.05, of_a_size=0.1), limit=1.0)
    assert images < BATCH
    assert BATCH * 0.05 * 0.9 < seconds < BATCH * 0.05 * 2
    assert time.monotonic() - started < 6

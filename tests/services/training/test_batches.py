"""The batch size that a training takes: what was given, or the usual one where the images are enough for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.services.configuration import PretrainConfig, resolve
from contrastive_cli.services.training.batches import fit_batch

FACES = np.repeat(np.arange(20), [3, 5] * 10)  # 20 people with 3 or 5 pictures: a round of 4 each shows 70


def configured(*, config: str | None = None, **train: Any) -> PretrainConfig:
    return resolve(config=config, sets={"device": "cpu", "train": train}, flags={}).config


@pytest.mark.parametrize(
    ("train", "images", "size"),
    [
        ({}, 2000, 256),
        ({}, 300, 150),
        ({}, 3, 2),
        ({"usual_batch_size": 64}, 2000, 64),
        ({"usual_batch_size": 64}, 100, 50),
        ({"usual_batch_size": 64, "batch_size": 96}, 100, 96),
    ],
)
def test_fit_batch__the_usual_one_where_images_are_enough(train: dict[str, Any], images: int, size: int) -> None:
    config = resolve(
        config=None, sets={"device": "cpu", "dataset": {"name": "folder"}, "train": train}, flags={}
    ).config
    assert fit_batch(config, num_samples=images).train.batch_size == size


def test_fit_batch__a_preset_fits_itself_to_few_faces() -> None:
    preset = configured(config="lfw-supcon")
    assert fit_batch(preset, num_samples=4000, labels=np.repeat(np.arange(200), 20)).train.batch_size == 128
    assert fit_batch(preset, num_samples=len(FACES), labels=FACES).train.batch_size == 40  # half of the 80 pictures
    many = np.repeat(np.arange(20), 30)
    assert fit_batch(preset, num_samples=len(many), labels=many).train.batch_size == 80  # 20 people x 4
    with pytest.raises(UsageError, match="images_per_class 4 leaves no second class in a batch of 5"):
        fit_batch(preset, num_samples=10, labels=np.repeat(np.arange(2), 5))


def test_fit_batch__a_given_one_is_not_changed() -> None:
    with pytest.raises(DataError, match="a batch of 128 is larger than the 100 training images"):
        fit_batch(configured(batch_size=128), num_samples=100)

"""`clr pretrain --plan`: everything resolved, some images decoded, a few steps timed; nothing is written."""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import Contrastive, CountingNegatives, Say, silent
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.data.loader import steps_per_epoch
from contrastive_cli.data.sampling import Sampled
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.methods import load_method
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.opening import sample_split
from contrastive_cli.services.training.batches import fit_batch, labeled_subset
from contrastive_cli.services.training.budget import LEAST_SHARE
from contrastive_cli.services.training.plan import timed_steps
from contrastive_cli.services.training.setup import (
    TrainingSetup,
    build,
    check_against_method,
    set_up_training,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a pretraining would do. Sizes in MB, times in seconds.

    Attributes:
        sampled: Images that were decoded to say so; None where all are decoded already.
        bad_files: Among the sampled ones.
        decoding_seconds: To decode all images, once; 0 where they are decoded already.
        cache_mb: What the decoded images take on the disk.
        memory_mb: Of the process, or of the GPU; beside the images where these are kept on the GPU.
    """

    images: int
    sampled: int | None
    classes: int
    bad_files: int
    fingerprint: str | None
    device: str
    precision: str
    encoder: str
    batch_size: int
    parameters: int
    embedding_dim: int
    steps: int
    steps_per_epoch: int
    peak_learning_rate: float
    negatives_per_anchor: int
    seconds_per_step: float
    views_per_second: float
    decoded_per_second: float | None
    decoding_seconds: float
    training_seconds: float
    total_minutes: float
    cache_mb: float
    memory_mb: float
    checkpoint_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan_training(config: PretrainConfig, *, say: Say = silent) -> Plan:
    """Resolve, decode a sample of the images, time a few steps.

    Raises:
        UsageError: If the configuration contradicts itself.
        DataError: If the images are absent or unusable.
    """
    setup, sampled, num_samples = _set_up_sample(config, say=say)
    before = _memory(setup.device)
    say("timing a few steps")
    with memory_errors(setup.device, batch_size=setup.config.batch_size):
        seconds, timed = timed_steps(setup)
    memory = before + max(0.0, _memory(setup.device) - before) * setup.config.batch_size / timed
    state_bytes = sum(tensor.nbytes for tensor in setup.method.state_dict().values())
    parameters = sum(parameter.numel() for parameter in setup.method.parameters())
    views = setup.config.batch_size * setup.method.num_views
    per_epoch = steps_per_epoch(num_samples=num_samples, batch_size=setup.config.batch_size)
    decoding = 0.0 if sampled.images_per_second is None else sampled.total / sampled.images_per_second
    steps = _num_steps(setup.config, per_epoch=per_epoch, seconds=seconds, decoding=decoding)
    images = sampled.images
    return Plan(
        images=sampled.total,
        sampled=None if sampled.images_per_second is None else images.num_samples,
        classes=len(images.classes),
        bad_files=len(images.bad_files),
        fingerprint=images.fingerprint or None,
        device=str(setup.device),
        precision=setup.precision,
        encoder=config.encoder.name,
        batch_size=setup.config.batch_size,
        parameters=parameters,
        embedding_dim=setup.method.embedding_dim,
        steps=steps,
        steps_per_epoch=per_epoch,
        peak_learning_rate=setup.config.peak_learning_rate,
        negatives_per_anchor=_negatives_per_anchor(setup),
        seconds_per_step=round(seconds, 4),
        views_per_second=round(views / seconds, 1),
        decoded_per_second=None if sampled.images_per_second is None else round(sampled.images_per_second, 1),
        decoding_seconds=round(decoding, 1),
        training_seconds=round(steps * seconds, 1),
        total_minutes=round((decoding + steps * seconds) / 60, 1),
        cache_mb=round(sampled.total * images.channels * images.size**2 / 1e6, 1),
        memory_mb=round(memory, 1),
        checkpoint_mb=round((state_bytes + parameters * 4 * 2) / 1e6, 1),
    )


def _set_up_sample(config: PretrainConfig, *, say: Say) -> tuple[TrainingSetup, Sampled, int]:
    """The training of some images in the place of all, what was seen of them, and how many would be trained on."""
    dataset = config.dataset
    assert dataset.size is not None, "the configuration was resolved"
    spec = load_method(config.method_name)
    check_against_method(config, spec)
    say(f"opening the images of {dataset.name}")
    split = find_dataset(dataset.name).pretrain_split
    size = dataset.stored_size or dataset.size
    sampled = sample_split(dataset, split=split, size=size, framing=config.stored_framing)
    if sampled.images_per_second is None or config.neighbors is not None:  # these are of images that were decoded
        setup = set_up_training(config, say=say)
        return setup, sampled, setup.num_samples
    images = sampled.images
    if (spec.needs_labels or config.train.images_per_class is not None) and not images.has_labels:
        raise DataError(f"{images.name} has no labels{images.why_no_labels}, and they are needed here")
    labeled = labeled_subset(config, images) if spec.needs_labels else None
    share = 1.0 if labeled is None else len(labeled) / images.num_samples
    num_samples = max(2, round(share * sampled.total))
    config = fit_batch(config, num_samples=num_samples)
    train = config.train.model_copy(update={"images_per_class": None})
    # A batch may be larger than the sample: its images are shown again.
    positions = torch.arange(images.num_samples) if labeled is None else labeled
    subset = positions.repeat(-(-config.batch_size // len(positions)))
    say(f"building {config.method_name} on {config.encoder.name}")
    setup = build(config.model_copy(update={"train": train}), images, subset=subset)
    return replace(setup, config=config.model_copy(update={"train": setup.config.train})), sampled, num_samples


def _negatives_per_anchor(setup: TrainingSetup) -> int:
    """Of a method that needs the whole batch: what it says, or all views of other images."""
    method, size = setup.method, setup.config.batch_size
    if isinstance(method, CountingNegatives):
        return method.negatives_per_anchor(size)
    return (size - 1) * method.num_views if isinstance(method, Contrastive) else 0


def _num_steps(config: PretrainConfig, *, per_epoch: int, seconds: float, decoding: float) -> int:
    train = config.train
    if train.plan:
        return train.plan[-1][1]
    if train.epochs is not None:
        return max(1, round(train.epochs * per_epoch))
    budget = train.budget or 0.0
    return max(1, int(max(budget - decoding, LEAST_SHARE * budget) / seconds))


def _memory(device: torch.device) -> float:
    """The most that was used so far, in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

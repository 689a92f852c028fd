"""The batch of a step and the optimizer steps of a training: pure functions of the step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from contrastive_cli.core.types import Batch, FromNeighbors, Progress
from contrastive_cli.data.read_ahead import ReadAhead
from contrastive_cli.engine.precision import autocast
from contrastive_cli.engine.schedule import Pace, warmup_cosine
from contrastive_cli.engine.train import StepRecord, train
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.training.setup import TrainingSetup
from contrastive_cli.views.augment import make_views
from contrastive_cli.views.noise import StepNoise
from contrastive_cli.views.sources import view_sources


class Batches:
    """The batch of every step, in parts; a pure function of the step, so that a resumed run sees the same views."""

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup = setup
        images = setup.images
        self.labels = torch.from_numpy(images.labels).to(setup.device) if images.has_labels else None
        self.neighbor_views = setup.method.neighbor_views if isinstance(setup.method, FromNeighbors) else ()
        self.groups = setup.config.groups_of(setup.method.num_views)
        self._sample = functools.lru_cache(maxsize=2)(setup.sample)  # of this step, and of the next one to read ahead
        self._source = ReadAhead(setup.source, self._rows)

    def part(self, step: int, piece: slice) -> Batch:
        """Some samples of a step's batch, the same whenever they are asked for."""
        setup, config = self.setup, self.setup.config
        epoch, positions = self._sample(step)
        indices = positions[piece]
        pixels = self._source.pixels(step, piece)
        if setup.neighbors is None:
            pixels = pixels.expand(setup.method.num_views, *pixels.shape)  # [V, B, C, H, W]
        indices = indices.to(setup.device)
        views, first = [], 0
        for group in self.groups:
            views.append(
                make_views(
                    pixels[first : first + group.count],
                    recipes=[group] * group.count,
                    indices=indices,
                    size=group.pixels(config.usual_view_size),
                    mean=setup.preprocessing.mean,
                    std=setup.preprocessing.std,
                    seed=config.seed,
                    epoch=epoch,
                    first_view=first,
                )
            )
            first += group.count
        labels = None if self.labels is None else self.labels[indices]
        noise = StepNoise(seed=config.seed, step=step, indices=indices)
        return Batch(views=tuple(views), indices=indices, labels=labels, noise=noise)

    def _rows(self, step: int, piece: slice) -> Tensor:
        """Which images the views are made of: int64 [B], or [V, B] where neighbors stand for some."""
        epoch, positions = self._sample(step)
        if self.setup.neighbors is None:
            return positions[piece]
        return view_sources(
            positions[piece],
            neighbors=self.setup.neighbors.indices,
            probabilities=self.neighbor_views,
            seed=self.setup.config.seed,
            epoch=epoch,
        )


def train_steps(setup: TrainingSetup, *, first_step: int, total_steps: int) -> Iterator[StepRecord]:
    """The engine's generator over the steps of a training of fixed length."""
    pace = Pace.of(total_steps)
    return paced_steps(setup, first_step=first_step, pace=lambda: pace)


def paced_steps(setup: TrainingSetup, *, first_step: int, pace: Callable[[], Pace]) -> Iterator[StepRecord]:
    """The engine's generator over the steps of a training whose pace is asked for at every step."""
    config = setup.config

    def steps() -> Iterator[int]:
        step = first_step
        while step < pace().total_steps:
            hold_encoder(setup, step)
            yield step
            step += 1

    def progress_at(step: int) -> Progress:
        return Progress(step=pace().position(step), total_steps=pace().planned_steps)

    return train(
        setup.method,
        batch_part=Batches(setup).part,
        batch_size=config.batch_size,
        optimizer=setup.optimizer,
        learning_rate=lambda step: learning_rate(config, progress_at(step)),
        steps=steps(),
        progress_at=progress_at,
        autocast=lambda: autocast(setup.device, setup.precision),
        micro_batch_size=config.train.micro_batch_size,
        clip_gradient=config.optim.clip_gradient,
        reduction=config.train.reduction,
    )


def hold_encoder(setup: TrainingSetup, step: int) -> None:
    """Keep the encoder as it came in the first `train.freeze_epochs`, its batch statistics too; then let it go."""
    frozen = round(setup.config.train.freeze_epochs * setup.steps_per_epoch)
    if frozen == 0 or step > frozen:
        return
    encoder = encoder_of(setup.method)
    encoder.requires_grad_(step == frozen)
    encoder.train(step == frozen)


def learning_rate(config: PretrainConfig, progress: Progress) -> float:
    """The rate of a step: warm-up, then half a cosine."""
    total = progress.total_steps
    warmup = round(config.optim.warmup_fraction * total)
    return warmup_cosine(progress.step, total_steps=total, warmup_steps=warmup, base=config.peak_learning_rate)

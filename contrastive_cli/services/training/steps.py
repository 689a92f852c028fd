"""The batch of a step and the optimizer steps of a training: pure functions of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from contrastive_cli.core.types import Batch, FromNeighbors
from contrastive_cli.engine.precision import autocast
from contrastive_cli.engine.schedule import warmup_cosine
from contrastive_cli.engine.train import StepRecord, train
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.training.setup import Trainee
from contrastive_cli.views.augment import make_views
from contrastive_cli.views.sources import view_sources


def batch_maker(trainee: Trainee) -> Callable[[int], Callable[[slice], Batch]]:
    """The batch of a step, as a function that makes any part of it; pure, so a resumed run sees the same views."""
    config, images, num_views = trainee.config, trainee.images, trainee.method.num_views
    probabilities = trainee.method.neighbor_views if isinstance(trainee.method, FromNeighbors) else ()
    labels = torch.from_numpy(images.labels).to(trainee.device) if images.has_labels else None

    def make_batch(step: int) -> Callable[[slice], Batch]:
        epoch, positions = trainee.sample(step)

        def make_part(piece: slice) -> Batch:
            indices = positions[piece]
            if trainee.neighbors is None:
                pixels = trainee.source.gather(indices)  # [B, C, H, W] uint8
                pixels = pixels.expand(num_views, *pixels.shape)  # [V, B, C, H, W]
            else:
                sources = view_sources(
                    indices,
                    neighbors=trainee.neighbors.indices,
                    probabilities=probabilities,
                    seed=config.seed,
                    epoch=epoch,
                )
                pixels = trainee.source.gather(sources)
            indices = indices.to(trainee.device)
            views = make_views(
                pixels,
                recipes=[config.views] * num_views,
                indices=indices,
                size=config.dataset.view_size or config.dataset.size or pixels.shape[-1],
                mean=images.mean,
                std=images.std,
                seed=config.seed,
                epoch=epoch,
            )
            return Batch(views=views, indices=indices, labels=None if labels is None else labels[indices])

        return make_part

    return make_batch


def train_steps(trainee: Trainee, *, first_step: int, total_steps: int) -> Iterator[StepRecord]:
    """The engine's generator over the steps of this trainee."""
    config = trainee.config
    return train(
        trainee.method,
        make_batch=batch_maker(trainee),
        batch_size=config.batch_size,
        optimizer=trainee.optimizer,
        learning_rate=lambda step: learning_rate(config, step, total_steps=total_steps),
        steps=range(first_step, total_steps),
        total_steps=total_steps,
        autocast=lambda: autocast(trainee.device, trainee.precision),
        micro_batch_size=config.train.micro_batch_size,
        clip_gradient=config.optim.clip_gradient,
    )


def learning_rate(config: PretrainConfig, step: int, *, total_steps: int) -> float:
    """The rate of a step: warm-up, then half a cosine."""
    warmup = round(config.optim.warmup_fraction * total_steps)
    return warmup_cosine(step, total_steps=total_steps, warmup_steps=warmup, base=config.peak_learning_rate)

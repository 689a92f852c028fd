"""DINO: all views, small ones too, predict how a slow average of the network classifies the large ones.

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, "Emerging Properties in Self-Supervised Vision Transformers",
ICCV 2021, https://arxiv.org/abs/2104.14294. The classes are made up on the way. Centering keeps one of them from taking
all images, and a low temperature keeps the targets from becoming all alike.

The projector is that of the other methods, with batch norm, as the paper's is for convolutional nets. Left out: a last
layer that is not trained in the first epoch, and a weight decay that rises.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.losses.cross_view import cross_view_loss
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.heads import build_projector, check_target_views, first_views, project_views
from contrastive_cli.models.momentum import cosine_momentum, momentum_copy, move_average_
from contrastive_cli.models.prototypes import Prototypes


class DINOConfig(Config):
    """Views, temperatures, how slowly target and center move, and the head.

    Attributes:
        num_views: Views V of an image in one step.
        target_views: The first so many views are seen by the target, too; the others only predict.
        prototypes: Made-up classes K.
        temperature: Divides the scores of a prediction.
        target_temperature: Divides the centered scores of the target, at the end of its warm-up.
        target_temperature_start: The same in the first step.
        target_warmup: Part of the training in which the target's temperature rises.
        center_momentum: Part of the center that stays in a step.
        tau_base: Part of the target that stays in the first step; rises to 1 along a cosine.
        projector_hidden: Width of the hidden layers of the projector.
        projector_dim: Width P of the projection z.
        projector_layers: Linear layers of the projector.
    """

    name: Literal["dino"] = "dino"
    num_views: int = Field(6, ge=2, le=256)
    target_views: int = Field(2, ge=1)
    prototypes: int = Field(1024, ge=2)
    temperature: float = Field(0.1, gt=0)
    target_temperature: float = Field(0.04, gt=0)
    target_temperature_start: float = Field(0.04, gt=0)
    target_warmup: float = Field(0.3, ge=0, le=1)
    center_momentum: float = Field(0.9, ge=0, le=1)
    tau_base: float = Field(0.99, ge=0, le=1)
    projector_hidden: int = Field(1024, gt=0)
    projector_dim: int = Field(256, gt=0)
    projector_layers: int = Field(3, ge=1)

    @model_validator(mode="after")
    def _views_fit(self) -> Self:
        check_target_views(self.target_views, num_views=self.num_views)
        return self


class DINO(nn.Module):
    """Online encoder, projector and prototypes; their slow averages, which no gradient reaches.

    Attributes:
        center: [K], running mean of the target's scores.
    """

    center: Tensor

    def __init__(self, config: DINOConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim
        self.projector = build_projector(
            inputs=self.embedding_dim,
            hidden=config.projector_hidden,
            outputs=config.projector_dim,
            layers=config.projector_layers,
        )
        self.prototypes = Prototypes(config.prototypes, dimension=config.projector_dim)
        self.target_encoder = momentum_copy(self.encoder)
        self.target_projector = momentum_copy(self.projector)
        self.target_prototypes = momentum_copy(self.prototypes)
        self.register_buffer("center", torch.zeros(config.prototypes))
        self.num_views = config.num_views
        self.config = config
        self._seen: list[Tensor] = []  # of each micro-batch: the target's scores of its images

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """`cross_view_loss` of all views of the batch; the target's scores are kept for the center."""
        predicted = self.prototypes(project_views(batch.views, encoder=self.encoder, projector=self.projector))
        with torch.no_grad():
            large = first_views(batch.views, self.config.target_views)
            projected = project_views(large, encoder=self.target_encoder, projector=self.target_projector)
            target = self.target_prototypes(projected)  # [T, B, K]
            self._seen.append(target.mean(dim=0))  # [B, K]
            sharp = self.target_temperature(progress)
            targets = ((target - self.center.to(target)) / sharp).softmax(dim=-1)
        loss = cross_view_loss(predicted, targets, temperature=self.config.temperature)
        entropy = -(targets * targets.clamp_min(1e-12).log()).sum(dim=-1).mean()
        metrics = {
            "loss_chance": loss.new_tensor(math.log(self.config.prototypes)),
            "target_entropy": entropy,
            "tau": torch.tensor(self._tau(progress)),
        }
        return LossOutput(loss=loss, metrics=metrics)

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Move the target and the center; once in an optimizer step, however many micro-batches it took."""
        tau = self._tau(progress)
        for average, online in (
            (self.target_encoder, self.encoder),
            (self.target_projector, self.projector),
            (self.target_prototypes, self.prototypes),
        ):
            move_average_(average, online, tau=tau)
        if self._seen:
            mean = torch.cat(self._seen).mean(dim=0)
            self.center.lerp_(mean.to(self.center), 1 - self.config.center_momentum)
            self._seen.clear()

    def give_left(self) -> tuple[Tensor, ...]:
        """The target's scores [b, K] of the images of the last micro-batch."""
        return (self._seen.pop(),)

    def take_left(self, left: list[tuple[Tensor, ...]]) -> None:
        """Those of all processes."""
        self._seen = [scores for (scores,) in left]

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D] of the online encoder."""
        return self.encoder(images)

    def target_temperature(self, progress: Progress) -> float:
        """Rises along a line in the warm-up."""
        config = self.config
        part = min(1.0, progress.fraction / config.target_warmup) if config.target_warmup > 0 else 1.0
        return config.target_temperature_start + part * (config.target_temperature - config.target_temperature_start)

    def _tau(self, progress: Progress) -> float:
        return cosine_momentum(progress.step, total_steps=progress.total_steps, base=self.config.tau_base)


METHOD = MethodSpec(
    summary="all views predict how a slow average of the network classifies the large ones",
    config=DINOConfig,
    build=DINO,
    view_groups=({"count": 2}, {"count": 4, "size_ratio": 0.5, "crop_probability": 1.0, "crop_area": (0.1, 0.4)}),
)

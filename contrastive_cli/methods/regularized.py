"""Views of an image come near their mean, and a regularizer keeps the batch from falling into one place.

Six published losses, one loop: see `losses.regularizers` for their sources. There are no negatives, no second network,
no predictor and no queue. Every one takes any number of views of any sizes; with `target_views` the mean is that of the
first ones, as in LeJEPA, where small crops come near the mean of the large ones.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.losses.regularizers import (
    coding_rate,
    covariance_square,
    cross_correlation,
    log_frobenius,
    off_diagonal_square,
    sigreg,
    variance_hinge,
    visreg_center,
    visreg_scale,
    visreg_shape,
)
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.heads import build_projector, check_target_views, project_views

Regularizer = Literal["sigreg", "visreg", "vicreg", "barlow", "frossl", "tcr"]
WEIGHTS: dict[Regularizer, tuple[float, float]] = {  # of the invariance and of the regularizer, as published
    "sigreg": (0.95, 0.05),
    "visreg": (0.4, 0.6),
    "vicreg": (25.0, 25.0),
    "barlow": (1.0, 5e-3),
    "frossl": (1.0, 1.0),
    "tcr": (200.0, 1.0),
}


class RegularizedConfig(Config):
    """The regularizer, its weight beside the invariance, the views and the projector.

    Attributes:
        regularizer: sigreg (LeJEPA), visreg, vicreg, barlow (Barlow Twins), frossl or tcr (EMP-SSL).
        invariance_weight: Weight of the distance of the views; None takes the published one of the regularizer.
        weight: Weight of the regularizer; None takes the published one.
        covariance_weight: Of vicreg's covariance beside its variance, which has `weight`.
        slices: Random directions in a step; sigreg and visreg.
        coding_eps: Squared distortion of tcr.
        num_views: Views V of an image in one step.
        target_views: The first so many views make the mean that all come near; None for all.
        projector_hidden: Width of the hidden layers of the projector.
        projector_dim: Width P of the projection z.
        projector_layers: Linear layers of the projector.
    """

    name: Literal["regularized"] = "regularized"
    regularizer: Regularizer = "sigreg"
    invariance_weight: float | None = Field(None, ge=0)
    weight: float | None = Field(None, ge=0)
    covariance_weight: float = Field(1.0, ge=0)
    slices: int = Field(256, gt=0, le=65536)
    coding_eps: float = Field(0.2, gt=0)
    num_views: int = Field(2, ge=2, le=256)
    target_views: int | None = Field(None, ge=1)
    projector_hidden: int = Field(2048, gt=0)
    projector_dim: int = Field(256, gt=0)
    projector_layers: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _views_fit(self) -> Self:
        check_target_views(self.target_views, num_views=self.num_views)
        if self.regularizer == "barlow" and self.target_views == 1:
            raise ValueError("barlow compares a view with the mean of others, so target_views must be 2 or more")
        return self


class Regularized(nn.Module):
    """Encoder, projector, invariance and regularizer."""

    def __init__(self, config: RegularizedConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim
        self.projector = build_projector(
            inputs=self.embedding_dim,
            hidden=config.projector_hidden,
            outputs=config.projector_dim,
            layers=config.projector_layers,
        )
        self.num_views = config.num_views
        self.config = config

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """The loss of all views of the batch."""
        seed = None if batch.noise is None else batch.noise.step_seed
        return self.contrast_drawing(self.project(batch.views), batch.labels, seed=seed)

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        """Groups of views [V_g, B, C, H_g, W_g] -> z [V, B, P]."""
        return project_views(views, encoder=self.encoder, projector=self.projector)

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        """The loss of z [V, B, P], with directions of torch's generator."""
        return self.contrast_drawing(projections, labels, seed=None)

    def contrast_drawing(self, projections: Tensor, labels: Tensor | None, *, seed: int | None) -> LossOutput:
        """The loss of z [V, B, P]; the whole batch is held against the same directions."""
        config = self.config
        generator = None if seed is None else Generator().manual_seed(seed)
        with torch.autocast(projections.device.type, enabled=False):
            z = projections if projections.dtype == torch.float64 else projections.float()
            near, spread = self._terms(z, generator)
            usual = WEIGHTS[config.regularizer]
            near_weight = usual[0] if config.invariance_weight is None else config.invariance_weight
            weight = usual[1] if config.weight is None else config.weight
            loss = near_weight * near + weight * spread
            metrics = {"invariance": near.detach(), config.regularizer: spread.detach()}
            if config.regularizer == "vicreg":
                covariance = covariance_square(z)
                loss = loss + config.covariance_weight * covariance
                metrics["covariance"] = covariance.detach()
        return LossOutput(loss=loss, metrics=metrics)

    def negatives_per_anchor(self, batch_size: int) -> int:
        """None: no pair is pushed apart."""
        return 0

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D]; the projector is dropped."""
        return self.encoder(images)

    def _terms(self, z: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Invariance and regularizer of z [V, B, P], each in the form of its paper."""
        slices, targets = self.config.slices, self.config.target_views or len(z)
        match self.config.regularizer:
            case "sigreg":
                return distance_to_mean(z, targets=targets), sigreg(z, slices=slices, generator=generator)
            case "visreg":
                shape = visreg_shape(z, slices=slices, generator=generator)
                return distance_to_mean(z, targets=targets), shape + visreg_scale(z) + visreg_center(z)
            case "vicreg":  # the mean over all pairs of views, as for two in the paper
                pairs = 2 * len(z) / (len(z) - 1)
                return pairs * distance_to_mean(z, targets=targets), variance_hinge(z)
            case "barlow":
                correlation = cross_correlation(z, mean_of_others(z, targets=targets))  # [V, P, P]
                diagonal = correlation.diagonal(dim1=1, dim2=2)
                return (1 - diagonal).square().sum(dim=1).mean(), off_diagonal_square(correlation).mean()
            case "frossl":
                z = F.normalize(z, dim=1)  # every dimension over the batch
                return len(z) ** 2 * z.shape[2] * distance_to_mean(z, targets=targets), log_frobenius(z)
            case "tcr":
                z = F.normalize(z, dim=2)
                cosines = F.cosine_similarity(z, z[:targets].mean(dim=0).expand_as(z), dim=2)
                return -cosines.mean(), -coding_rate(z, eps=self.config.coding_eps)


def distance_to_mean(z: Tensor, *, targets: int) -> Tensor:
    """Mean squared distance of all numbers of z [V, B, P] from the mean of the first `targets` views; a scalar >= 0."""
    return (z - z[:targets].mean(dim=0)).square().mean()


def mean_of_others(z: Tensor, *, targets: int) -> Tensor:
    """Of each of the views z [V, B, P] the mean of the first `targets` views, itself left out: [V, B, P]."""
    summed = z[:targets].sum(dim=0)
    own = [(summed - z[k]) / (targets - 1) if k < targets else summed / targets for k in range(len(z))]
    return torch.stack(own)


METHOD = MethodSpec(
    summary="views come near their mean, a regularizer keeps the batch spread; no negatives",
    config=RegularizedConfig,
    build=Regularized,
)

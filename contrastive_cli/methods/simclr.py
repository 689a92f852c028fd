"""SimCLR: two views of one image attract, all other views of the batch repel.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
https://arxiv.org/abs/2002.05709. All views go through the encoder in one pass, so batch norm sees them together, as in
the authors' code.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.losses.contrastive import nt_xent_multiview, reference_lines
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.heads import build_projector, project_views


class SimCLRConfig(Config):
    """Temperature, projector and number of views.

    Attributes:
        temperature: Divides the cosine similarities; lower punishes near negatives harder.
        projector_hidden: Width of the hidden layer of the projector.
        projector_dim: Width P of the projection z.
        projector_layers: Linear layers of the projector.
        num_views: Views V of an image in one step; all pairs of views are positives.
        decoupled: Leave the positive out of the denominator (DCL, https://arxiv.org/abs/2110.06848).
    """

    name: Literal["simclr"] = "simclr"
    temperature: float = Field(0.5, gt=0)
    projector_hidden: int = Field(512, gt=0)
    projector_dim: int = Field(128, gt=0)
    projector_layers: int = Field(2, ge=1)
    num_views: int = Field(2, ge=2)
    decoupled: bool = False


class SimCLR(nn.Module):
    """Encoder, projector and NT-Xent."""

    def __init__(self, config: SimCLRConfig, *, encoder: Encoder, images: ImageFacts) -> None:
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
        self.temperature = config.temperature
        self.decoupled = config.decoupled

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """NT-Xent over all views of the batch."""
        return self.contrast(self.project(batch.views), batch.labels)

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        """Groups of views [V_g, B, C, H_g, W_g] -> z [V, B, P]."""
        return project_views(views, encoder=self.encoder, projector=self.projector)

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        """Mean NT-Xent of z [V, B, P], beside the losses of chance and of perfect alignment."""
        num_views, num_images, _ = projections.shape
        loss = nt_xent_multiview(projections, temperature=self.temperature, decoupled=self.decoupled)
        chance, aligned = reference_lines(
            num_images, temperature=self.temperature, num_views=num_views, decoupled=self.decoupled
        )
        return LossOutput(
            loss=loss, metrics={"loss_chance": torch.tensor(chance), "loss_aligned": torch.tensor(aligned)}
        )

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D]; the projector is dropped (section 4.2)."""
        return self.encoder(images)


METHOD = MethodSpec(summary="two views attract, the rest of the batch repels", config=SimCLRConfig, build=SimCLR)

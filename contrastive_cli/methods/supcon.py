"""SupCon: all views of all images of one class attract, all others repel.

Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan, "Supervised Contrastive Learning", NeurIPS 2020,
https://arxiv.org/abs/2004.11362. Left out: the factor temperature / base_temperature of the authors' code, so a
learning rate of theirs is to be multiplied by temperature / 0.07 here.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.losses.contrastive import count_positives, sup_con
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.heads import build_projector, project_views


class SupConConfig(Config):
    """Temperature, projector and number of views.

    Attributes:
        temperature: Divides the cosine similarities; lower punishes near negatives harder.
        positives: Where the mean over the positives stands, outside or inside the logarithm (Eq. 2 and 3).
        projector_hidden: Width of the hidden layer of the projector.
        projector_dim: Width P of the projection z.
        projector_layers: Linear layers of the projector.
        num_views: Views V of an image in one step; with one, an image alone of its class in a batch has no positive.
    """

    name: Literal["supcon"] = "supcon"
    temperature: float = Field(0.1, gt=0)
    positives: Literal["out", "in"] = "out"
    projector_hidden: int = Field(512, gt=0)
    projector_dim: int = Field(128, gt=0)
    projector_layers: int = Field(2, ge=1)
    num_views: int = Field(2, ge=1)


class SupCon(nn.Module):
    """Encoder, projector and the supervised contrastive loss.

    An unlabeled image (-1) is a negative of all others and no anchor: not even its own views attract each other.
    """

    def __init__(self, config: SupConConfig, *, encoder: Encoder, images: ImageFacts) -> None:
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
        self.positives = config.positives

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """SupCon over all views of the batch."""
        return self.contrast(self.project(batch.views), batch.labels)

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        """Groups of views [V_g, B, C, H_g, W_g] -> z [V, B, P]."""
        return project_views(views, encoder=self.encoder, projector=self.projector)

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        """SupCon of z [V, B, P] with labels [B], beside the losses of chance and of classes in one point each."""
        assert labels is not None, "the service refuses a data set without labels"
        rows = labels.repeat(projections.shape[0])  # [VB]
        loss = sup_con(projections.flatten(0, 1), rows, temperature=self.temperature, positives=self.positives)
        counts = count_positives(rows)
        is_anchor = counts > 0
        others = len(rows) - 1
        # Positives at cosine 1, negatives at 0: the mean of log(|P| + (M - 1 - |P|) exp(-1 / temperature)).
        aligned = (counts + (others - counts) * math.exp(-1 / self.temperature)).log()
        anchors = is_anchor.sum()
        return LossOutput(
            loss=loss,
            metrics={
                "loss_chance": loss.new_tensor(math.log(others)),
                "loss_aligned": aligned.where(is_anchor, 0).sum() / anchors.clamp(min=1),
                "anchors_without_positive": (len(rows) - anchors).float(),
            },
        )

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D]; the projector is dropped (section 3.1)."""
        return self.encoder(images)


METHOD = MethodSpec(
    summary="images of one class attract, all others repel (needs labels)",
    config=SupConConfig,
    build=SupCon,
    needs_labels=True,
)

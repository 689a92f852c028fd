"""NNCLR: the positive of a view is not another view of its image but that one's nearest neighbor among earlier images.

Dwibedi, Aytar, Tompson, Sermanet, Zisserman, "With a Little Help from My Friends", ICCV 2021,
https://arxiv.org/abs/2104.14548. Neighbors that were mined before the training are `byol` with `positives`.

Until something is in the queue, a view's positive is the other view itself.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.heads import build_projector, project_views
from contrastive_cli.models.queue import VectorQueue


class NNCLRConfig(Config):
    """Temperature, queue, and the widths of the heads.

    Attributes:
        temperature: Divides the cosine similarities; lower punishes near negatives harder.
        queue_size: Projections of earlier images among which neighbors are looked for.
        projector_hidden: Width of the hidden layer of the projector.
        projector_dim: Width P of the projection z.
        projector_layers: Linear layers of the projector.
        predictor_hidden: Width of the hidden layer of the predictor.
    """

    name: Literal["nnclr"] = "nnclr"
    temperature: float = Field(0.1, gt=0)
    queue_size: int = Field(8192, gt=0, le=2**20)
    projector_hidden: int = Field(1024, gt=0)
    projector_dim: int = Field(256, gt=0)
    projector_layers: int = Field(2, ge=1)
    predictor_hidden: int = Field(1024, gt=0)


class NNCLR(nn.Module):
    """Encoder, projector, predictor and the queue of projections."""

    num_views = 2

    def __init__(self, config: NNCLRConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim
        self.projector = build_projector(
            inputs=self.embedding_dim,
            hidden=config.projector_hidden,
            outputs=config.projector_dim,
            layers=config.projector_layers,
        )
        self.predictor = build_projector(
            inputs=config.projector_dim, hidden=config.predictor_hidden, outputs=config.projector_dim
        )
        self.queue = VectorQueue(config.queue_size, dimension=config.projector_dim)
        self.temperature = config.temperature
        self._seen: Tensor | None = None

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """The loss of both directions."""
        return self.contrast(self.project(batch.views), batch.labels)

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        """Groups of views -> [4, B, P]: the predictions of both views, then their projections without a gradient."""
        projections = project_views(views, encoder=self.encoder, projector=self.projector)
        predictions = self.predictor(projections.flatten(0, 1)).view_as(projections)
        return torch.cat([predictions, projections.detach()])

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        """Mean of both directions of `neighbor_loss` of the rows of `project` [4, B, P]."""
        with torch.autocast(projections.device.type, enabled=False):
            rows = F.normalize(projections.float(), dim=-1)
            predictions, seen = rows[:2], rows[2:].detach()
            neighbors = self.queue.nearest(seen.flatten(0, 1)).view_as(seen)
            one, other = (neighbor_loss(neighbors[k], predictions[1 - k], temperature=self.temperature) for k in (0, 1))
            self._seen = seen[0]
            metrics = {
                "loss_chance": torch.tensor(math.log(len(seen[0]))),
                "neighbor_cosine": (neighbors * seen).sum(dim=-1).mean(),
            }
        return LossOutput(loss=(one + other) / 2, metrics=metrics)

    def after_step(self, progress: Progress) -> None:
        """Put the projections of the step's first views into the queue."""
        if self._seen is not None:
            self.queue.push(self._seen)
            self._seen = None

    def negatives_per_anchor(self, batch_size: int) -> int:
        """The predictions of the other images of the batch."""
        return batch_size - 1

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D]; the heads are dropped."""
        return self.encoder(images)


def neighbor_loss(neighbors: Tensor, predictions: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of finding, from the neighbor of an image, the prediction of that image's other view (eq. 2).

    Args:
        neighbors: NN(z), [B, P], unit length, without a gradient.
        predictions: q of the other views, [B, P], unit length; row i belongs to row i.
        temperature: T > 0.

    Returns:
        Scalar mean over the images, >= 0; log B by chance.
    """
    own = torch.arange(len(neighbors), device=neighbors.device)
    return F.cross_entropy(neighbors @ predictions.T / temperature, own)


METHOD = MethodSpec(
    summary="the nearest neighbor of a view among earlier images attracts the other view",
    config=NNCLRConfig,
    build=NNCLR,
)

"""MoCo: two views of an image attract, others repel; a view is compared with what a slow average of the net sees.

v3 has a predictor and takes its negatives from the batch: Chen, Xie, He, "An Empirical Study of Training
Self-Supervised Vision Transformers", ICCV 2021, https://arxiv.org/abs/2104.02057. v2+ has no predictor and takes them
from a queue of earlier batches: He et al., CVPR 2020, https://arxiv.org/abs/1911.05722, Chen et al. 2020,
https://arxiv.org/abs/2003.04297, here in both directions ("+"), with one queue for both views.

Left out: the shuffling of batch norm among GPUs, and the batch norm behind the last layers of v3's heads.
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
from contrastive_cli.models.momentum import cosine_momentum, momentum_copy, move_average_
from contrastive_cli.models.queue import VectorQueue


class MoCoConfig(Config):
    """The version, temperature, queue, how slowly the target moves, and the widths of the heads.

    Attributes:
        version: v3, with a predictor and negatives from the batch; v2+, with negatives from a queue.
        temperature: Divides the cosine similarities; lower punishes near negatives harder.
        queue_size: Vectors of earlier batches; v2+ only.
        tau_base: Part of the target that stays in the first step; rises to 1 along a cosine.
        projector_hidden: Width of the hidden layer of the projector.
        projector_dim: Width P of the projection z.
        projector_layers: Linear layers of the projector.
        predictor_hidden: Width of the hidden layer of the predictor; v3 only.
    """

    name: Literal["moco"] = "moco"
    version: Literal["v3", "v2+"] = "v3"
    temperature: float = Field(0.2, gt=0)
    queue_size: int = Field(8192, gt=0, le=2**20)
    tau_base: float = Field(0.99, ge=0, le=1)
    projector_hidden: int = Field(1024, gt=0)
    projector_dim: int = Field(256, gt=0)
    projector_layers: int = Field(2, ge=1)
    predictor_hidden: int = Field(1024, gt=0)


class MoCo(nn.Module):
    """Online encoder and projector, for v3 a predictor; target encoder and projector, which no gradient reaches."""

    num_views = 2

    def __init__(self, config: MoCoConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim
        self.projector = build_projector(
            inputs=self.embedding_dim,
            hidden=config.projector_hidden,
            outputs=config.projector_dim,
            layers=config.projector_layers,
        )
        self.predictor: nn.Module = nn.Identity()
        self.queue: VectorQueue | None = None
        if config.version == "v3":
            width = config.projector_dim
            self.predictor = build_projector(inputs=width, hidden=config.predictor_hidden, outputs=width)
        else:
            self.queue = VectorQueue(config.queue_size, dimension=config.projector_dim)
        self.target_encoder = momentum_copy(self.encoder)
        self.target_projector = momentum_copy(self.projector)
        self.temperature = config.temperature
        self.tau_base = config.tau_base
        self._keys: Tensor | None = None

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """The loss of both directions."""
        return self.contrast(self.project(batch.views), batch.labels)

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        """Groups of views -> [4, B, P]: the queries of both views, then their keys, which carry no gradient."""
        queries = project_views(views, encoder=self.encoder, projector=self.projector)
        queries = self.predictor(queries.flatten(0, 1)).view_as(queries)
        with torch.no_grad():
            keys = project_views(views, encoder=self.target_encoder, projector=self.target_projector)
        return torch.cat([queries, keys])

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        """InfoNCE of the rows of `project` [4, B, P]; the keys are kept for the queue."""
        with torch.autocast(projections.device.type, enabled=False):
            rows = F.normalize(projections.float(), dim=-1)
            queries, keys = rows[:2], rows[2:].detach()
            if self.queue is None:
                one, other = (in_batch_loss(queries[k], keys[1 - k], temperature=self.temperature) for k in (0, 1))
                loss, chance = one + other, 4 * self.temperature * math.log(len(queries[0]))
            else:
                self._keys = keys.flatten(0, 1)
                negatives = self.queue.rows
                both = [
                    queue_loss(queries[k], keys[1 - k], negatives=negatives, temperature=self.temperature)
                    for k in (0, 1)
                ]
                loss, chance = (both[0] + both[1]) / 2, math.log1p(len(negatives))
        return LossOutput(loss=loss, metrics={"loss_chance": torch.tensor(chance)})

    def after_step(self, progress: Progress) -> None:
        """Move the target and the queue; once in an optimizer step, however many micro-batches it took."""
        tau = cosine_momentum(progress.step, total_steps=progress.total_steps, base=self.tau_base)
        move_average_(self.target_encoder, self.encoder, tau=tau)
        move_average_(self.target_projector, self.projector, tau=tau)
        if self.queue is not None and self._keys is not None:
            self.queue.push(self._keys)
            self._keys = None

    def negatives_per_anchor(self, batch_size: int) -> int:
        """The other images of the batch, or the queue."""
        return batch_size - 1 if self.queue is None else len(self.queue.rows)

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D] of the online encoder."""
        return self.encoder(images)


def in_batch_loss(queries: Tensor, keys: Tensor, *, temperature: float) -> Tensor:
    """2 T times the cross-entropy of finding the own key among those of the batch (MoCo v3, algorithm 1).

    Args:
        queries: [B, P], unit length.
        keys: [B, P], unit length; row i of both is the same image.
        temperature: T > 0.

    Returns:
        Scalar mean over the queries, >= 0; 2 T log B by chance.
    """
    logits = queries @ keys.T / temperature  # [B, B]
    own = torch.arange(len(queries), device=queries.device)
    return 2 * temperature * F.cross_entropy(logits, own)


def queue_loss(queries: Tensor, keys: Tensor, *, negatives: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding the own key among the rows of a queue (MoCo, algorithm 1).

    Args:
        queries: [B, P], unit length.
        keys: [B, P], unit length; row i of both is the same image.
        negatives: [Q, P], unit length.
        temperature: T > 0.

    Returns:
        Scalar mean over the queries, >= 0; log(1 + Q) by chance.
    """
    positive = (queries * keys).sum(dim=1, keepdim=True)  # [B, 1]
    logits = torch.cat([positive, queries @ negatives.to(queries).T], dim=1) / temperature
    first = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    return F.cross_entropy(logits, first)


METHOD = MethodSpec(
    summary="views attract, others repel, compared with a slow average of the network",
    config=MoCoConfig,
    build=MoCo,
)

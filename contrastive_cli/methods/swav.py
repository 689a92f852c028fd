"""SwAV: the views of an image are to have the same assignment to prototypes, and every prototype gets its share.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", NeurIPS 2020, https://arxiv.org/abs/2006.09882. The assignments of the large views are found for the whole
batch by Sinkhorn and Knopp's iteration, and predicted from all other views, small ones too.

Left out: prototypes that are not trained in the first epoch.
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
from contrastive_cli.models.heads import build_projector, check_target_views, project_views
from contrastive_cli.models.prototypes import Prototypes, sinkhorn
from contrastive_cli.models.queue import VectorQueue


class SwAVConfig(Config):
    """Views, prototypes, how assignments are made, and the projector.

    Attributes:
        num_views: Views V of an image in one step.
        target_views: The first so many views are assigned to prototypes; the others only predict.
        prototypes: How many, K.
        temperature: Divides the cosines of a prediction.
        sinkhorn_eps: Softness of the assignments.
        sinkhorn_iterations: Rounds that even out the prototypes.
        queue_size: Earlier projections that are assigned along with a small batch; 0 for none.
        queue_start: Part of the training after which the queue is used.
        projector_hidden: Width of the hidden layer of the projector.
        projector_dim: Width P of the projection z.
        projector_layers: Linear layers of the projector.
    """

    name: Literal["swav"] = "swav"
    num_views: int = Field(6, ge=2, le=256)
    target_views: int = Field(2, ge=1)
    prototypes: int = Field(512, ge=2)
    temperature: float = Field(0.1, gt=0)
    sinkhorn_eps: float = Field(0.05, gt=0)
    sinkhorn_iterations: int = Field(3, ge=1)
    queue_size: int = Field(0, ge=0, le=2**20)
    queue_start: float = Field(0.1, ge=0, le=1)
    projector_hidden: int = Field(1024, gt=0)
    projector_dim: int = Field(128, gt=0)
    projector_layers: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _views_fit(self) -> Self:
        check_target_views(self.target_views, num_views=self.num_views)
        return self


class SwAV(nn.Module):
    """Encoder, projector, prototypes, and a queue for each large view.

    Attributes:
        done: The part of the training that is done, which decides whether the queue is used.
    """

    done: Tensor

    def __init__(self, config: SwAVConfig, *, encoder: Encoder, images: ImageFacts) -> None:
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
        queues = config.target_views if config.queue_size else 0
        self.queues = nn.ModuleList(
            VectorQueue(config.queue_size, dimension=config.projector_dim) for _ in range(queues)
        )
        self.register_buffer("done", torch.zeros(()))
        self.num_views = config.num_views
        self.config = config
        self._seen: Tensor | None = None

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """The loss of all views of the batch."""
        return self.contrast(self.project(batch.views), batch.labels)

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        """Groups of views [V_g, B, C, H_g, W_g] -> z [V, B, P]."""
        return project_views(views, encoder=self.encoder, projector=self.projector)

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        """`cross_view_loss` of z [V, B, P]; the projections of the large views are kept for the queue."""
        config = self.config
        large = projections[: config.target_views].detach()
        scores = self.prototypes(projections)  # [V, B, K]
        with torch.no_grad():
            codes = torch.stack([self._codes(number, own) for number, own in enumerate(scores[: len(large)].detach())])
        if self.queues:
            self._seen = large
        loss = cross_view_loss(scores, codes, temperature=config.temperature)
        used = codes.mean(dim=(0, 1))
        metrics = {
            "loss_chance": loss.new_tensor(math.log(config.prototypes)),
            "prototype_entropy": -(used * used.clamp_min(1e-12).log()).sum(),
        }
        return LossOutput(loss=loss, metrics=metrics)

    def after_step(self, progress: Progress) -> None:
        """Put the large views' projections into the queues, and note how far the training is."""
        self.done.fill_((progress.step + 1) / max(1, progress.total_steps))
        if self._seen is not None:
            for queue, vectors in zip(self.queues, self._seen, strict=True):
                queue.push(vectors)  # type: ignore[operator]  # a ModuleList forgets what it holds
            self._seen = None

    def negatives_per_anchor(self, batch_size: int) -> int:
        """None: the prototypes keep the images apart."""
        return 0

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D]; projector and prototypes are dropped."""
        return self.encoder(images)

    def _codes(self, number: int, scores: Tensor) -> Tensor:
        """The assignments [B, K] of one large view from its scores, with those of its queue once that is full."""
        config, count = self.config, len(scores)
        if self.queues and float(self.done) >= config.queue_start:
            queue = self.queues[number]
            assert isinstance(queue, VectorQueue), "they were made as such"
            if int(queue.filled) == len(queue.rows):
                scores = torch.cat([scores, self.prototypes(queue.rows).to(scores)])
        return sinkhorn(scores, eps=config.sinkhorn_eps, iterations=config.sinkhorn_iterations)[:count]


METHOD = MethodSpec(
    summary="views have the same assignment to prototypes, which share the batch evenly",
    config=SwAVConfig,
    build=SwAV,
    view_groups=({"count": 2}, {"count": 4, "size_ratio": 0.5, "crop_probability": 1.0, "crop_area": (0.1, 0.4)}),
)

"""BYOL: predict what a slowly moving average of the network sees in another view; there are no negatives.

Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, https://arxiv.org/abs/2006.07733. The other view may show a
mined neighbor of the image instead of the image itself (as Dwibedi et al., "With a Little Help from My Friends",
ICCV 2021, https://arxiv.org/abs/2104.14548, do with a queue): see `positives`.

Each view goes through each network in a pass of its own, so batch norm sees one view at a time, as in the authors'
code: what a view shows never changes how another one is normalized.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.heads import build_projector
from contrastive_cli.models.momentum import cosine_momentum, momentum_copy, move_average_


class BYOLConfig(Config):
    """What is predicted, how slowly the target moves, and the widths of the heads.

    Attributes:
        positives: augment, two views of one image; neighbor, where the second view, in both directions, may show a
            neighbor; mix, where a third view always shows a neighbor and has its part in both targets.
        neighbor_probability: Of the second view showing a neighbor; with `neighbor` only.
        positive_weight: Part of the neighbor in the target, 0 is augment; with `mix` only.
        tau_base: Part of the target that stays in the first step; rises to 1 along a cosine.
        projector_hidden: Width of the hidden layer of the projector.
        projector_dim: Width P of the projection z.
        predictor_hidden: Width of the hidden layer of the predictor.
    """

    name: Literal["byol"] = "byol"
    positives: Literal["augment", "neighbor", "mix"] = "augment"
    neighbor_probability: float = Field(0.5, ge=0, le=1)
    positive_weight: float = Field(0.5, ge=0, le=1)
    tau_base: float = Field(0.99, ge=0, le=1)
    projector_hidden: int = Field(1024, gt=0)
    projector_dim: int = Field(256, gt=0)
    predictor_hidden: int = Field(1024, gt=0)


class BYOL(nn.Module):
    """Online encoder, projector and predictor; target encoder and projector, which no gradient reaches.

    The target starts as a copy and stays in train mode with the online network: it normalizes by the batch, and its
    running statistics are its own, never used and never averaged.
    """

    def __init__(self, config: BYOLConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim
        self.projector = build_projector(
            inputs=self.embedding_dim, hidden=config.projector_hidden, outputs=config.projector_dim, last_bias=False
        )
        self.predictor = build_projector(
            inputs=config.projector_dim, hidden=config.predictor_hidden, outputs=config.projector_dim, last_bias=False
        )
        self.target_encoder = momentum_copy(self.encoder)
        self.target_projector = momentum_copy(self.projector)
        self.tau_base = config.tau_base
        self.neighbor_weight = config.positive_weight if config.positives == "mix" else 0.0
        self.neighbor_views = {
            "augment": (0.0, 0.0),
            "neighbor": (0.0, config.neighbor_probability),
            "mix": (0.0, 0.0, 1.0),
        }[config.positives]
        self.num_views = len(self.neighbor_views)

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """Mean of `symmetric_loss` over the images of the batch, 2 or 3 views."""
        predictions = torch.stack(
            [self.predictor(self.projector(self.encoder(view))) for view in batch.single_views[:2]]
        )
        with torch.no_grad():
            targets = torch.stack([self.target_projector(self.target_encoder(view)) for view in batch.single_views])
        loss = symmetric_loss(predictions, targets, neighbor_weight=self.neighbor_weight).mean()
        return LossOutput(loss=loss, metrics={"tau": torch.tensor(self._tau(progress))})

    def after_step(self, progress: Progress) -> None:
        """Move the target; once in an optimizer step, however many micro-batches it took."""
        tau = self._tau(progress)
        move_average_(self.target_encoder, self.encoder, tau=tau)
        move_average_(self.target_projector, self.projector, tau=tau)

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D] of the online encoder (section 3.1: only it is kept)."""
        return self.encoder(images)

    def _tau(self, progress: Progress) -> float:
        return cosine_momentum(progress.step, total_steps=progress.total_steps, base=self.tau_base)


def symmetric_loss(predictions: Tensor, targets: Tensor, *, neighbor_weight: float = 0.0) -> Tensor:
    """2 - 2 cos of each prediction and the target of the other view, summed over both directions (eq. 2 and 3).

    The sum is the scale of the paper; some libraries take half or a quarter of it, which matters to the learning rate
    of SGD.

    Args:
        predictions: q(z) of two views, [2, B, P] floating.
        targets: z' of the two views and, if there is a neighbor, of its view: [2 or 3, B, P].
        neighbor_weight: w in [0, 1]; the target of a direction is (1 - w) z'_other + w z'_neighbor, where all three
            are of length 1 before they are averaged, and their mean again after.

    Returns:
        [B] float32, in [0, 8].
    """
    predictions, targets = F.normalize(predictions.float(), dim=-1), F.normalize(targets.float(), dim=-1)
    others = targets[:2].flip(0)  # view 1 is predicted from view 2, and the other way round
    if len(targets) > 2:
        others = F.normalize(torch.lerp(others, targets[2].expand_as(others), neighbor_weight), dim=-1)
    return (2 - 2 * (predictions * others).sum(dim=-1)).sum(dim=0)


METHOD = MethodSpec(summary="predict a moving average of the network; no negatives", config=BYOLConfig, build=BYOL)

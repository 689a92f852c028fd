"""BYOL: predict what a slowly moving average of the network sees in another view; there are no negatives.

Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, https://arxiv.org/abs/2006.07733. The other view may show a
mined neighbor of the image instead of the image itself (as Dwibedi et al., "With a Little Help from My Friends",
ICCV 2021, https://arxiv.org/abs/2104.14548, do with a queue): see `positives`.

Three relatives are fields: `target: self` is SimSiam (Chen and He, CVPR 2021, https://arxiv.org/abs/2011.10566),
`targets: views` is FastSiam (Pototzky et al., GCPR 2022), whose target is the mean of all other views, and `split` is
Fast-MoCo's online branch (Ci et al., ECCV 2022, https://arxiv.org/abs/2207.08220), without its negatives.

Each view goes through each network in a pass of its own, so batch norm sees one view at a time, as in the authors'
code: what a view shows never changes how another one is normalized.
"""

from __future__ import annotations

import itertools
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.heads import build_projector, check_target_views
from contrastive_cli.models.momentum import cosine_momentum, momentum_copy, move_average_


class BYOLConfig(Config):
    """What is predicted, how slowly the target moves, and the widths of the heads.

    Attributes:
        positives: augment, two views of one image; neighbor, where the second view, in both directions, may show a
            neighbor; mix, where a third view always shows a neighbor and has its part in both targets.
        neighbor_probability: Of the second view showing a neighbor; with `neighbor` only.
        positive_weight: Part of the neighbor in the target, 0 is augment; with `mix` only.
        targets: What a view predicts: `view`, the other one; `views`, the mean of all others (FastSiam).
        num_views: Views K of an image in one step; more than 2 with `targets: views` only.
        target_views: The first so many views are targets, the others only predict, such as small crops; None for all.
        target: Where targets come from: `average`, of the network; `self`, the network as it is (SimSiam).
        split: Predict from the six means of two quarters of a view instead of from the whole view (Fast-MoCo).
        tau_base: Part of the target that stays in the first step; rises to 1 along a cosine.
        projector_hidden: Width of the hidden layer of the projector.
        projector_dim: Width P of the projection z.
        predictor_hidden: Width of the hidden layer of the predictor.
    """

    name: Literal["byol"] = "byol"
    positives: Literal["augment", "neighbor", "mix"] = "augment"
    neighbor_probability: float = Field(0.5, ge=0, le=1)
    positive_weight: float = Field(0.5, ge=0, le=1)
    targets: Literal["view", "views"] = "view"
    num_views: int = Field(2, ge=2, le=256)
    target_views: int | None = Field(None, ge=1)
    target: Literal["average", "self"] = "average"
    split: bool = False
    tau_base: float = Field(0.99, ge=0, le=1)
    projector_hidden: int = Field(1024, gt=0)
    projector_dim: int = Field(256, gt=0)
    predictor_hidden: int = Field(1024, gt=0)

    @model_validator(mode="after")
    def _views_fit(self) -> Self:
        if self.targets == "view" and (self.num_views != 2 or self.target_views is not None):
            raise ValueError("num_views and target_views need targets: views")
        if self.targets == "views" and self.positives != "augment":
            raise ValueError(
                f"targets: views shows the image itself, so positives must be augment, not {self.positives}"
            )
        check_target_views(self.target_views, num_views=self.num_views)
        if self.target_views == 1:
            raise ValueError("target_views: 1 leaves the first view nothing to predict; take 2 or more")
        return self


class BYOL(nn.Module):
    """Online encoder, projector and predictor; target encoder and projector, which no gradient reaches.

    The target starts as a copy and stays in train mode with the online network: it normalizes by the batch, and its
    running statistics are its own, never used and never averaged. With `target: self` there is no second network.
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
        self.averages = config.target == "average"
        if self.averages:
            self.target_encoder = momentum_copy(self.encoder)
            self.target_projector = momentum_copy(self.projector)
        self.tau_base = config.tau_base
        self.neighbor_weight = config.positive_weight if config.positives == "mix" else 0.0
        self.neighbor_views = {
            "augment": (0.0,) * config.num_views,
            "neighbor": (0.0, config.neighbor_probability),
            "mix": (0.0, 0.0, 1.0),
        }[config.positives]
        self.num_views = len(self.neighbor_views)
        self.num_predicting = config.num_views  # a neighbor of `mix` is only a target
        self.num_targets = config.target_views or self.num_views
        self.predicts_means = config.targets == "views"
        self.parts_per_side = 2 if config.split else 1

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """Mean of `symmetric_loss`, or `mean_target_loss`, over the images of the batch."""
        views = batch.single_views
        projections = [self._project(view) for view in views[: self.num_predicting]]  # [S, B, P] each
        predictions = torch.stack([self._predict(projection) for projection in projections], dim=1)  # [S, K, B, P]
        with torch.no_grad():
            targets = [self._target(view, projections[k : k + 1]) for k, view in enumerate(views[: self.num_targets])]
        stacked = torch.stack(targets)  # [T, B, P]
        if self.predicts_means:
            losses = [mean_target_loss(part, stacked) for part in predictions]
        else:
            losses = [symmetric_loss(part, stacked, neighbor_weight=self.neighbor_weight) for part in predictions]
        loss = losses[0].mean() if len(losses) == 1 else torch.stack(losses).mean()
        return LossOutput(loss=loss, metrics={"tau": torch.tensor(self._tau(progress))} if self.averages else {})

    def after_step(self, progress: Progress) -> None:
        """Move the target; once in an optimizer step, however many micro-batches it took."""
        if self.averages:
            tau = self._tau(progress)
            move_average_(self.target_encoder, self.encoder, tau=tau)
            move_average_(self.target_projector, self.projector, tau=tau)

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D] of the online encoder (section 3.1: only it is kept)."""
        return self.encoder(images)

    def _project(self, view: Tensor) -> Tensor:
        """[B, C, H, W] -> z [S, B, P] of the view, or of the means of two of its quarters."""
        if self.parts_per_side == 1:
            projection: Tensor = self.projector(self.encoder(view))
            return projection[None]
        embeddings = pair_means(self.encoder(quarters(view).flatten(0, 1)).unflatten(0, (4, -1)))
        projections: Tensor = self.projector(embeddings.flatten(0, 1)).unflatten(0, embeddings.shape[:2])
        return projections

    def _predict(self, projection: Tensor) -> Tensor:
        predictions: Tensor = self.predictor(projection.flatten(0, 1)).view_as(projection)
        return predictions

    def _target(self, view: Tensor, projected: list[Tensor]) -> Tensor:
        """Z' [B, P] of a whole view; `projected` holds what the online network made of it, if it saw it."""
        if self.averages:
            target: Tensor = self.target_projector(self.target_encoder(view))
        elif projected and self.parts_per_side == 1:
            target = projected[0][0].detach()
        else:
            target = self.projector(self.encoder(view))
        return target

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


def mean_target_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """2 - 2 cos of each prediction and the mean of the targets of all other views, on the scale of `symmetric_loss`.

    The mean is taken of the targets as they are, of any length, as FastSiam does; with two views it is BYOL.

    Args:
        predictions: q(z) of K views, [K, B, P] floating.
        targets: z' of the first T of these views, [T, B, P], 2 <= T <= K.

    Returns:
        [B] float32, twice the mean over the K views, in [0, 8].
    """
    predictions, targets = F.normalize(predictions.float(), dim=-1), targets.float()
    count, summed = len(targets), targets.sum(dim=0)
    others = [summed - targets[k] if k < count else summed for k in range(len(predictions))]  # cos ignores the length
    cosines = (predictions * F.normalize(torch.stack(others), dim=-1)).sum(dim=-1)  # [K, B]
    return 2 * (2 - 2 * cosines).mean(dim=0)


def quarters(view: Tensor) -> Tensor:
    """[B, C, H, W] -> its four quarters [4, B, C, H // 2, W // 2]; an odd last row or column is left out."""
    height, width = view.shape[-2] // 2, view.shape[-1] // 2
    corners = itertools.product((0, height), (0, width))
    return torch.stack([view[..., top : top + height, left : left + width] for top, left in corners])


def pair_means(embeddings: Tensor) -> Tensor:
    """[N, B, D] -> the means of all pairs of the first dimension [N (N - 1) / 2, B, D]."""
    pairs = list(itertools.combinations(range(len(embeddings)), 2))
    first, second = (embeddings[[pair[side] for pair in pairs]] for side in (0, 1))
    return (first + second) / 2


METHOD = MethodSpec(summary="predict a moving average of the network; no negatives", config=BYOLConfig, build=BYOL)

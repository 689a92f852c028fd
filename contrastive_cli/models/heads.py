"""Heads on top of an embedding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contrastive_cli.models.encoder import Encoder


def build_projector(
    *, inputs: int, hidden: int, outputs: int, layers: int = 2, last_bias: bool = True
) -> nn.Sequential:
    """An MLP h [B, inputs] -> z [B, outputs] with batch norm after every hidden layer (SimCLR, section 4.2).

    Args:
        inputs: Width of the embedding.
        hidden: Width of the hidden layers.
        outputs: Width of the projection.
        layers: Number of linear layers, at least 1.
        last_bias: Give the last layer a bias; before another layer with batch norm it would do nothing.
    """
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        modules += [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        inputs = hidden
    return nn.Sequential(*modules, nn.Linear(inputs, outputs, bias=last_bias))


def encode_views(views: Sequence[Tensor], *, encoder: Encoder) -> Tensor:
    """Groups of views [V_g, B, C, H_g, W_g] -> h [V, B, D], in the order of the groups.

    Groups that follow each other and have the same size go through in one pass, so that batch norm sees them together.
    """
    passes = [list(same) for _, same in itertools.groupby(views, key=lambda group: group.shape[1:])]
    joined = [same[0] if len(same) == 1 else torch.cat(same) for same in passes]
    embeddings = [encoder(group.flatten(0, 1)).view(*group.shape[:2], -1) for group in joined]
    return embeddings[0] if len(embeddings) == 1 else torch.cat(embeddings)


def project_views(views: Sequence[Tensor], *, encoder: Encoder, projector: nn.Module) -> Tensor:
    """Groups of views [V_g, B, C, H_g, W_g] -> z [V, B, P]; see `encode_views`."""
    embeddings = encode_views(views, encoder=encoder)
    projections: Tensor = projector(embeddings.flatten(0, 1))  # [VB, P]
    return projections.view(*embeddings.shape[:2], -1)


def first_views(views: Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
    """Groups of views [V_g, B, C, H_g, W_g] -> the groups of the first `count` views, the last of them cut."""
    starts = itertools.accumulate((len(group) for group in views), initial=0)
    return tuple(group[: count - start] for group, start in zip(views, starts, strict=False) if start < count)


def check_target_views(target_views: int | None, *, num_views: int) -> None:
    """The views that become targets are the first of those that there are; None are all. Raises ValueError."""
    if target_views is not None and target_views > num_views:
        raise ValueError(f"target_views {target_views} are more than the {num_views} views")

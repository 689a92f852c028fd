"""Which image a view shows: the sample itself, or now and then one of its mined neighbors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_cli.views.draws import uniform

_STREAM = 2


def view_sources(
    indices: Tensor, *, neighbors: Tensor, probabilities: Sequence[float], seed: int, epoch: int
) -> Tensor:
    """Draw the image of every view: with its probability, one of the sample's K neighbors, each as likely.

    A function of (seed, epoch, sample, view) alone, like all draws of views.

    Args:
        indices: [B] int64, positions of the samples.
        neighbors: [N, K] int64, positions of the neighbors of every image, on the device of `indices`.
        probabilities: V numbers in [0, 1], of each view showing a neighbor.
        seed: Of the run.
        epoch: Counted from anywhere.

    Returns:
        [V, B] int64 positions.
    """
    rows = neighbors[indices]  # [B, K]
    views = range(len(probabilities))
    draws = uniform(seed=seed, epoch=epoch, indices=indices, views=views, slots=2, stream=_STREAM)
    sources = []
    for probability, draw in zip(probabilities, draws.chunk(len(views)), strict=True):
        rank = (draw[:, 1] * rows.shape[1]).long().clamp_(max=rows.shape[1] - 1)  # float32 can round up to K
        neighbor = rows.gather(1, rank[:, None])[:, 0]
        sources.append(torch.where(draw[:, 0] < probability, neighbor, indices))
    return torch.stack(sources)

"""Prototypes: directions that projections are compared with (SwAV, DINO)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prototypes(nn.Module):
    """K directions; the cosines with them are the scores."""

    def __init__(self, count: int, *, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, dimension), dim=1))

    def forward(self, projections: Tensor) -> Tensor:
        """[..., P] of any length -> cosines [..., K], in float32 at least, outside of autocast."""
        with torch.autocast(projections.device.type, enabled=False):
            z = projections if projections.dtype == torch.float64 else projections.float()
            scores: Tensor = F.normalize(z, dim=-1) @ F.normalize(self.weight.to(z), dim=-1).T
        return scores


@torch.no_grad()
def sinkhorn(scores: Tensor, *, eps: float, iterations: int) -> Tensor:
    """Soft assignment of the rows to prototypes that gets each prototype about as many rows (SwAV, section 3.1).

    Args:
        scores: Cosines [B, K].
        eps: Softness > 0; the lower, the harder.
        iterations: Rounds in which the prototypes, then the rows are normalized.

    Returns:
        [B, K], each row sums to 1.
    """
    plan = ((scores - scores.max()) / eps).exp()  # a common factor changes nothing
    for _ in range(iterations):
        plan = plan / plan.sum(dim=0, keepdim=True).clamp_min(torch.finfo(plan.dtype).tiny)
        plan = plan / plan.sum(dim=1, keepdim=True)
    return plan

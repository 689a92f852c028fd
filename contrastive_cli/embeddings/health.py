"""Two numbers that tell a collapsed embedding from a healthy one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def embedding_health(h: Tensor) -> tuple[float, float]:
    """Spread and effective rank of a batch of embeddings, computed in float32.

    Args:
        h: Embeddings, [B, D] floating, B >= 2.

    Returns:
        (spread, effective_rank). Spread is the standard deviation of the L2-normalized embeddings, mean over
        dimensions, times sqrt(D): 0 when collapsed to a point, near 1 when isotropic. Effective rank is the exponential
        of the entropy of the normalized singular values, in [1, min(B, D)]. Both are NaN if h is not finite.

    Raises:
        ValueError: If h is not [B, D] with B >= 2.

    Source: Eq. 1 and 2 of RankMe (Garrido et al. 2023, https://arxiv.org/abs/2210.02885).
    """
    if h.ndim != 2 or h.shape[0] < 2:
        raise ValueError(f"h must be [B, D] with B >= 2, not {list(h.shape)}")
    h = h.float()
    if not bool(h.isfinite().all()):
        return math.nan, math.nan
    spread = F.normalize(h, dim=1).std(dim=0).mean() * math.sqrt(h.shape[1])
    singular = torch.linalg.svdvals(h)  # [min(B, D)]
    # Differs from the paper: no epsilon is added to each share, entr(0) is 0 anyway.
    shares = singular / singular.sum().clamp_min(torch.finfo(h.dtype).tiny)
    return float(spread), float(torch.special.entr(shares).sum().exp())

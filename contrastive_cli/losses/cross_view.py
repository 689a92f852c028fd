"""What SwAV and DINO have in common: soft classes of some views, predicted from all other views of the image."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_view_loss(scores: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of the classes of each target view with what every other view predicts.

    Args:
        scores: Of V views for K classes, [V, B, K] floating.
        targets: Probabilities of the first T views, [T, B, K]; rows sum to 1 and carry no gradient.
        temperature: Divides the scores; > 0.

    Returns:
        Scalar mean over the images and the T (V - 1) pairs, float32 (float64 for float64 scores), >= 0.

    Raises:
        ValueError: If temperature <= 0, or there are fewer than two views, or more targets than views.

    Source: SwAV, eq. 2 with section 3.2 (https://arxiv.org/abs/2006.09882), and DINO, eq. 3
    (https://arxiv.org/abs/2104.14294).
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if not 1 <= len(targets) <= len(scores) or len(scores) < 2:
        raise ValueError(f"needs two views or more, and at most as many targets, not {len(scores)} and {len(targets)}")
    with torch.autocast(scores.device.type, enabled=False):  # an error of bf16 grows by 1 / temperature
        wide = scores if scores.dtype == torch.float64 else scores.float()
        predicted = (wide / temperature).log_softmax(dim=-1)
        pairs = -torch.einsum("tbk,vbk->tv", targets.to(predicted), predicted) / scores.shape[1]  # [T, V]
        own = torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
        return pairs.masked_fill(own, 0.0).sum() / (len(targets) * (len(scores) - 1))

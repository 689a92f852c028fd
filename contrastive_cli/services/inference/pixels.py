"""Raw pixels as features: the baseline that every embedding has to beat."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

PIXEL_SIZE = 32
PIXEL_CHUNK = 1000


def flat_pixels(images: NDArray[np.uint8]) -> torch.Tensor:
    """Raw pixels [N, C*H*W] in [0, 1]; larger images are averaged down to 32 px, or no linear head could hold them."""
    parts = []
    for start in range(0, len(images), PIXEL_CHUNK):
        part = torch.from_numpy(np.array(images[start : start + PIXEL_CHUNK])).float() / 255
        if part.shape[-1] > PIXEL_SIZE:
            part = torch.nn.functional.interpolate(part, size=(PIXEL_SIZE, PIXEL_SIZE), mode="area")
        parts.append(part.flatten(1))
    return torch.cat(parts)

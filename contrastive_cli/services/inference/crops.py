"""Several pictures of one image, over whose embeddings the mean is taken: itself, its mirror image, crops.

Chen et al. 2022, "Bag of Image Patch Embedding", https://arxiv.org/abs/2206.08954: the mean over crops is what a
contrastive encoder knows of an image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import UsageError

CROPS = (1, 2, 6, 15)  # itself; and its mirror image; and four large crops; and nine smaller ones
LARGE, SMALL = 7 / 8, 3 / 4  # of the side


def check_crops(crops: int) -> int:
    """The number, if there are so many pictures.

    Raises:
        UsageError: If there are not.
    """
    if crops not in CROPS:
        raise UsageError(
            f"--crops {crops} is none of {', '.join(map(str, CROPS))}",
            hint="1 is the picture, 2 adds its mirror image, 6 four crops of 7/8 of its side, 15 nine of 3/4",
        )
    return crops


def pictures_of(pixels: NDArray[np.uint8], *, crops: int, mirror: bool) -> list[NDArray[np.uint8]]:
    """The pictures that stand for images [N, C, H, W], each a view of their pixels: [N, C, h, w].

    The mirror image is left out without `mirror`, for encoders that were never shown one.
    """
    pictures = [pixels]
    if crops >= CROPS[1] and mirror:
        pictures.append(pixels[..., ::-1])
    if crops >= CROPS[2]:
        pictures += _grid(pixels, side=LARGE, steps=2)
    if crops >= CROPS[3]:
        pictures += _grid(pixels, side=SMALL, steps=3)
    return pictures


def _grid(pixels: NDArray[np.uint8], *, side: float, steps: int) -> list[NDArray[np.uint8]]:
    """Crops of a part of the sides, at the corners and evenly between them."""
    height, width = (max(1, round(side * length)) for length in pixels.shape[2:])
    tops = [round(step * (pixels.shape[2] - height) / (steps - 1)) for step in range(steps)]
    lefts = [round(step * (pixels.shape[3] - width) / (steps - 1)) for step in range(steps)]
    return [pixels[..., top : top + height, left : left + width] for top in tops for left in lefts]

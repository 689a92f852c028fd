"""The channels of a picture that a figure shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.services.dataset_config import DatasetConfig


def for_display(images: NDArray[Any], dataset: DatasetConfig) -> NDArray[Any]:
    """Images [..., C, H, W] -> [..., 1 or 3, H, W]: `dataset.display_bands`, else the first three or the first."""
    channels = images.shape[-3]
    if dataset.display_bands is not None and dataset.bands is not None:
        chosen = [dataset.bands.index(band) for band in dataset.display_bands]
    else:
        chosen = [0, 1, 2] if channels >= 3 else [0]
    if chosen == list(range(channels)):
        return images
    return np.take(images, chosen, axis=-3)

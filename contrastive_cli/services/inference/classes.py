"""The classes that a method with a classifier finds in images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.choices import Precision
from contrastive_cli.core.types import Classifying, CountProgress, Method
from contrastive_cli.engine.inference import evaluating, map_images
from contrastive_cli.views.preprocessing import Preprocessing


def predict_classes(
    method: Method,
    pixels: NDArray[np.uint8],
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Precision,
    progress: CountProgress | None = None,
) -> NDArray[np.int64]:
    """uint8 [N, C, H, W] -> the likeliest class [N] of the method, in evaluation mode."""
    assert isinstance(method, Classifying), "only a classifier is asked for classes"
    with evaluating(method):
        (classes,) = map_images(
            lambda chunk: (method.classify(preprocessing(chunk)).argmax(1),),
            pixels,
            size=preprocessing.size,
            device=device,
            precision=precision,
            progress=progress,
        )
    return classes.numpy()

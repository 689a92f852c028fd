"""The vectors by which pictures are compared: small gray thumbnails, or what a run's encoder makes of them."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Layer
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.packing import in_order
from contrastive_cli.services.curation.pictures import Pictures
from contrastive_cli.services.inference.model import Model, embed_pixels

FLAT: Final = 2.0  # gray levels: a thumbnail that varies less is all noise, and is like nothing
PICTURES_AT_ONCE: Final = 1024


def thumbnail_vectors(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gray thumbnails [U, S, S] less their mean, [U, S * S], so that the cosine is the correlation; zero where flat."""
    vectors = gray.reshape(len(gray), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors[vectors.std(axis=1) < FLAT] = 0
    return vectors


def encoder_vectors(
    model: Model,
    pictures: Pictures,
    rows: NDArray[np.int64],
    *,
    layer: Layer = "h",
    progress: CountProgress | None = None,
) -> NDArray[np.float32]:
    """Embed some pictures, raw [U, D], decoded as the run's own were, a thousand at a time.

    Raises:
        DataError: If the run takes other channels.
    """
    channels = model.channels
    if channels not in (1, 3) or model.manifest.bands is not None:
        raise DataError(f"{model.run.name} takes {channels} bands, and a check looks at colors")
    size = model.manifest.decoded_size
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(rows), PICTURES_AT_ONCE):
        part = rows[start : start + PICTURES_AT_ONCE]
        pixels = np.stack(list(in_order(functools.partial(_pixels, pictures, part, size, channels), len(part))))
        parts.append(embed_pixels(model, pixels, layer=layer))
        if progress is not None:
            progress(start + len(part), len(rows))
    return np.concatenate(parts)


def _pixels(pictures: Pictures, rows: NDArray[np.int64], size: int, channels: int, number: int) -> NDArray[np.uint8]:
    found = pictures.pixels(int(rows[number]), size=size, channels=channels)
    if len(found) == channels:
        return found
    return np.repeat(found, 3, axis=0) if channels == 3 else found.mean(axis=0, keepdims=True).astype(np.uint8)

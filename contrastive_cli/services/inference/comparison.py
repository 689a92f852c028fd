"""The vectors that two images are compared by: at which layer, of the image alone or with crops and mirror images too.

`clr similarity` reaches this module; the end of a training chooses here what suits the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Average, Layer
from contrastive_cli.core.errors import ClrError
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.data.pairs import draw_pairs
from contrastive_cli.embeddings.similarity import paired_cosines, unit_rows
from contrastive_cli.embeddings.verification import verify
from contrastive_cli.services.inference.model import Model, embed_pixels
from contrastive_cli.services.inference.splits import open_split

CROP_SIDES = (1.0, 0.9, 0.8)  # of the image's side, around its center
VALIDATION_IMAGES = 1000
VALIDATION_PAIRS = 6000


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How images are compared.

    Attributes:
        layer: The encoder's h or the projector's z.
        average: Of which pictures the mean direction stands for an image: itself alone, with its mirror image, or
            with that, smaller crops around its center and theirs.
    """

    layer: Layer = "h"
    average: Average = "none"

    @property
    def name(self) -> str:
        """Part of file names."""
        return self.layer if self.average == "none" else f"{self.layer}-{self.average}"

    def __str__(self) -> str:
        extra = {"none": "", "mirror": ", with mirror images", "crops": ", with crops and mirror images"}
        return f"layer {self.layer}{extra[self.average]}"


def comparison_of(model: Model, *, layer: str | None, average: str | None) -> Comparison:
    """What is asked for, which must be a known name, and what the run's validation pairs chose of the rest."""
    manifest = model.manifest
    return Comparison(
        layer=cast(Layer, layer or manifest.similarity_layer),
        average=cast(Average, average or manifest.similarity_average),
    )


def compared_vectors(model: Model, pixels: NDArray[np.uint8], how: Comparison) -> NDArray[np.float32]:
    """uint8 [N, C, H, W] -> float32 [N, D], whose cosines are the similarities.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    if how.average == "none":
        return embed_pixels(model, pixels, layer=how.layer)
    pictures = averaged_pictures(pixels, how.average)
    directions = [unit_rows(embed_pixels(model, picture, layer=how.layer)) for picture in pictures]
    mean: NDArray[np.float64] = np.stack(directions).mean(axis=0)
    return mean.astype(np.float32)


def averaged_pictures(pixels: NDArray[np.uint8], average: Average) -> list[NDArray[np.uint8]]:
    """The pictures that stand for images [N, C, H, W], each a view of their pixels: [N, C, h, w]."""
    if average == "none":
        return [pixels]
    pictures = [_center(pixels, side=side) for side in (CROP_SIDES if average == "crops" else (1.0,))]
    return [*pictures, *(picture[..., ::-1] for picture in pictures)]


def _center(pixels: NDArray[np.uint8], *, side: float) -> NDArray[np.uint8]:
    top, left = (round(0.5 * (1 - side) * length) for length in pixels.shape[2:])  # the same on both sides
    return pixels[..., top : pixels.shape[2] - top, left : pixels.shape[3] - left]


def choose_comparison(model: Model) -> tuple[Comparison, dict[str, float]]:
    """The way that tells the people of the dataset's identity split apart best, and the AUC of each by its name.

    h, and no figures, where the method has no projector or the dataset no such split. Crops and mirror images are tried
    where the training has shown them.
    """
    split = find_dataset(model.config.dataset.name).identity_split
    if split is None or not hasattr(model.method, "projector"):
        return Comparison(), {}
    layers: tuple[Layer, ...] = ("h", "z")
    averages: tuple[Average, ...] = ("none",)
    if model.config.views.flip_probability > 0:
        averages = ("none", "mirror", "crops") if model.config.views.crop_probability > 0 else ("none", "mirror")
    ways = [Comparison(layer=layer, average=average) for layer in layers for average in averages]
    try:
        images = open_split(model, split)
        chosen = draw_positions(images.num_samples, limit=VALIDATION_IMAGES, seed=0)
        labels = images.labels[chosen]
        sizes = np.bincount(labels[labels >= 0])
        possible = int((sizes * (sizes - 1) // 2).sum())
        positions, same = draw_pairs(labels, count=min(VALIDATION_PAIRS, 2 * possible), seed=0)
        pixels = np.asarray(images.images[chosen])
        areas = {
            way: verify(paired_cosines(compared_vectors(model, pixels, way), positions), same)[0].auc for way in ways
        }
    except ClrError:  # the images are absent or there are too few pairs to tell, which must not fail a training
        return Comparison(), {}
    return max(ways, key=lambda way: areas[way]), {way.name: area for way, area in areas.items()}

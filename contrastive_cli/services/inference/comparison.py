"""The vectors that two images are compared by: of which layer and space, of the image alone or with crops of it too.

`clr similarity` reaches this module; the end of a training chooses here what suits the run.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Average, Layer, SpaceKind
from contrastive_cli.core.errors import ClrError, UsageError
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.data.pairs import draw_pairs
from contrastive_cli.embeddings.similarity import paired_cosines, unit_rows
from contrastive_cli.embeddings.space import Space, enter_space
from contrastive_cli.embeddings.space_file import KINDS, LAYERS, RunSpaces
from contrastive_cli.embeddings.verification import verify
from contrastive_cli.services.inference.model import Model, embed_pixels
from contrastive_cli.services.inference.spaces import find_spaces
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
        space: Raw, or in the space that the run keeps of the layer.
    """

    layer: Layer = "h"
    average: Average = "none"
    space: SpaceKind = "raw"

    @property
    def name(self) -> str:
        """Part of file names."""
        parts = (self.layer, *(() if self.average == "none" else (self.average,)))
        return "-".join(parts if self.space == "raw" else (*parts, self.space))

    def __str__(self) -> str:
        extra = {"none": "", "mirror": ", with mirror images", "crops": ", with crops and mirror images"}
        return f"layer {self.layer}{'' if self.space == 'raw' else f' {self.space}'}{extra[self.average]}"


def comparison_of(
    model: Model, *, layer: Layer | None, average: Average | None, space: SpaceKind | None = None
) -> Comparison:
    """What is asked for, and what the end of the training chose of the rest.

    Runs of before `space.safetensors` are measured now, where their images are at hand; else they are compared raw.
    """
    manifest = model.manifest
    layer = layer or manifest.similarity_layer
    spaces = None if space == "raw" else find_spaces(model)
    if space == "whitened" and (spaces is None or layer not in spaces.layers):
        raise UsageError(f"{model.run.name} has no space of layer {layer}", hint="give --space raw")
    if space is None:
        space = "raw" if spaces is None or layer not in spaces.layers else spaces.kind
    return Comparison(layer=layer, average=average or manifest.similarity_average, space=space)


def compared_vectors(model: Model, pixels: NDArray[np.uint8], how: Comparison) -> NDArray[np.float32]:
    """uint8 [N, C, H, W] -> float32 [N, D], whose cosines are the similarities.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    pictures = averaged_pictures(pixels, how.average)
    space = None if how.space == "raw" else _space_of(model, how.layer)
    return _averaged([embed_pixels(model, picture, layer=how.layer) for picture in pictures], space=space)


def _averaged(embedded: list[NDArray[np.float32]], *, space: Space | None) -> NDArray[np.float32]:
    """The mean direction of the embeddings of several pictures, each in the space; that of one picture as it is."""
    vectors = embedded if space is None else [enter_space(rows, space) for rows in embedded]
    if len(vectors) == 1:
        return vectors[0]
    mean: NDArray[np.float64] = np.stack([unit_rows(rows) for rows in vectors]).mean(axis=0)
    return mean.astype(np.float32)


def _space_of(model: Model, layer: Layer) -> Space:
    spaces = find_spaces(model)
    if spaces is None or layer not in spaces.layers:
        raise UsageError(f"{model.run.name} has no space of layer {layer}", hint="give --space raw")
    return spaces.layers[layer]


def averaged_pictures(pixels: NDArray[np.uint8], average: Average) -> list[NDArray[np.uint8]]:
    """The pictures that stand for images [N, C, H, W], each a view of their pixels: [N, C, h, w]."""
    if average == "none":
        return [pixels]
    pictures = [_center(pixels, side=side) for side in (CROP_SIDES if average == "crops" else (1.0,))]
    return [*pictures, *(picture[..., ::-1] for picture in pictures)]


def _center(pixels: NDArray[np.uint8], *, side: float) -> NDArray[np.uint8]:
    top, left = (round(0.5 * (1 - side) * length) for length in pixels.shape[2:])  # the same on both sides
    return pixels[..., top : pixels.shape[2] - top, left : pixels.shape[3] - left]


def choose_comparison(model: Model, spaces: RunSpaces | None = None) -> tuple[Comparison, dict[str, float]]:
    """The way that tells the people of the dataset's identity split apart best, and the AUC of each by its name.

    Where the method has no projector or the dataset no such split, it is what the spaces say, and there are no figures.
    Crops and mirror images are tried where the training has shown them.
    """
    usual = Comparison() if spaces is None else Comparison(layer=spaces.layer, space=spaces.kind)
    split = find_dataset(model.config.dataset.name).identity_split
    if split is None or not hasattr(model.method, "projector"):
        return usual, {}
    averages: tuple[Average, ...] = ("none",)
    if model.config.views.flip_probability > 0:
        averages = ("none", "mirror", "crops") if model.config.views.crop_probability > 0 else ("none", "mirror")
    try:
        images = open_split(model, split)
        chosen = draw_positions(images.num_samples, limit=VALIDATION_IMAGES, seed=0)
        labels = images.labels[chosen]
        sizes = np.bincount(labels[labels >= 0])
        possible = int((sizes * (sizes - 1) // 2).sum())
        positions, same = draw_pairs(labels, count=min(VALIDATION_PAIRS, 2 * possible), seed=0)
        pixels = np.asarray(images.images[chosen])
        areas: dict[Comparison, float] = {}
        for layer, average in itertools.product(LAYERS, averages):
            embedded = [embed_pixels(model, picture, layer=layer) for picture in averaged_pictures(pixels, average)]
            space = None if spaces is None else spaces.layers.get(layer)
            for kind in KINDS if space is not None else KINDS[:1]:
                vectors = _averaged(embedded, space=space if kind == "whitened" else None)
                way = Comparison(layer=layer, average=average, space=kind)
                areas[way] = verify(paired_cosines(vectors, positions), same)[0].auc
    except ClrError:  # the images are absent or there are too few pairs to tell, which must not fail a training
        return usual, {}
    return max(areas, key=lambda way: areas[way]), {way.name: area for way, area in areas.items()}

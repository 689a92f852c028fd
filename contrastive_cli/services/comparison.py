"""The vectors that two images are compared by: at which layer, of the image alone or with its mirror image too.

`clr similarity` reaches this module; the end of a training chooses here what suits the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.files import write_json
from contrastive_cli.core.runs import Run
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.data.pairs import draw_pairs
from contrastive_cli.embeddings.similarity import paired_cosines, unit_rows
from contrastive_cli.embeddings.verification import verify
from contrastive_cli.services.embedding import Layer, Model, embed_pixels, load_model, open_split

VALIDATION_IMAGES = 1000
VALIDATION_PAIRS = 6000


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How images are compared.

    Attributes:
        layer: The encoder's h or the projector's z.
        mirrored: Whether an image stands for itself and its mirror image, by the mean of their two directions.
    """

    layer: Layer = "h"
    mirrored: bool = False

    @property
    def name(self) -> str:
        """Part of file names."""
        return f"{self.layer}-mirrored" if self.mirrored else self.layer

    def __str__(self) -> str:
        return f"layer {self.layer}, with mirror images" if self.mirrored else f"layer {self.layer}"


def comparison_of(model: Model, *, layer: Layer | None, mirrored: bool | None) -> Comparison:
    """What is asked for, and what the run's validation pairs chose of the rest."""
    manifest = model.manifest
    return Comparison(
        layer=layer or manifest.similarity_layer,
        mirrored=manifest.similarity_mirrored if mirrored is None else mirrored,
    )


def compared_vectors(model: Model, pixels: NDArray[np.uint8], how: Comparison) -> NDArray[np.float32]:
    """uint8 [N, C, H, W] -> float32 [N, D], whose cosines are the similarities.

    Raises:
        UsageError: If the method has no projector and z is asked for.
    """
    vectors = embed_pixels(model, pixels, layer=how.layer)
    if not how.mirrored:
        return vectors
    mirrored = embed_pixels(model, pixels[..., ::-1], layer=how.layer)
    return (0.5 * (unit_rows(vectors) + unit_rows(mirrored))).astype(np.float32)


def choose_comparison(model: Model) -> tuple[Comparison, dict[str, float]]:
    """The way that tells the people of the dataset's identity split apart best, and the AUC of each by its name.

    h, and no figures, where the method has no projector or the dataset no such split. Mirror images are tried where
    the training has shown them.
    """
    split = find_dataset(model.config.dataset.name).identity_split
    if split is None or not hasattr(model.method, "projector"):
        return Comparison(), {}
    layers: tuple[Layer, ...] = ("h", "z")
    mirrored = (False, True) if model.config.views.flip_probability > 0 else (False,)
    ways = [Comparison(layer=layer, mirrored=both) for layer in layers for both in mirrored]
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


def record_comparison(run: Run, *, device: str) -> Comparison:
    """Choose at the end of a training, which holds the run, and leave the figures in it."""
    chosen, areas = choose_comparison(load_model(run, device=device))
    if areas:
        file = run.path / "eval" / "similarity-layer.json"
        write_json(file, {"layer": chosen.layer, "mirrored": chosen.mirrored, "validation_auc": areas})
        run.add_artifact(file, kind="evaluation")
    return chosen

"""Measuring the space of a run's embeddings on images, and choosing the exponent by the contrast of neighbors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.core.choices import Layer, SpaceKind
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.embeddings.contrast import neighborhood_contrast
from contrastive_cli.embeddings.space import MAX_WIDTH, Space, enter_space, measure_space
from contrastive_cli.embeddings.space_file import LAYERS, RunSpaces
from contrastive_cli.engine.inference import map_images
from contrastive_cli.methods import load_method
from contrastive_cli.models.encoder import projector_of
from contrastive_cli.services.inference.model import Model
from contrastive_cli.services.inference.pixels import flat_pixels

MEASURED_IMAGES = 5000
YARDSTICK_IMAGES = 1500
LEAST_IMAGES = 100  # fewer say too little of how embeddings vary
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
BY_CONTRAST = "the contrast of neighbors on training images"
BY_METHOD = "the method, which learned from labels what is alike"


def measure_spaces(
    model: Model, pixels: NDArray[np.uint8], *, progress: CountProgress | None = None
) -> RunSpaces | None:
    """Measure center, axes and spread of every layer on images [N, C, H, W], and choose the exponent of each.

    The yardstick is the contrast of neighbors among images that the space was not measured on.
    """
    if len(pixels) < LEAST_IMAGES:
        return None
    layers = _embed_layers(model, pixels, progress=progress)
    if layers["h"].shape[1] > MAX_WIDTH:
        return None
    found: dict[Layer, Space] = {}
    contrasts: dict[str, float] = {}
    for layer, vectors in layers.items():
        found[layer], by_exponent = _choose_exponent(vectors)
        contrasts |= {f"{layer} {name}": value for name, value in by_exponent.items()}
    held_out, _ = _parts(len(pixels))
    contrasts["pixels"] = neighborhood_contrast(flat_pixels(pixels[held_out]).numpy())
    learned = load_method(model.manifest.method).needs_labels
    better = contrasts[f"h {found['h'].exponent:g}"] > contrasts["h raw"]
    return RunSpaces(
        layers=found,
        layer="h",
        kind="whitened" if better and not learned else "raw",
        chosen_by=BY_METHOD if learned else BY_CONTRAST,
        checkpoint=model.checkpoint,
        images=len(pixels),
        contrasts=contrasts,
    )


def describe_spaces(spaces: RunSpaces) -> list[str]:
    """What was chosen, and whether the neighbors stand out more than those of raw pixels, in lines for people."""
    space = spaces.layers[spaces.layer]
    chosen = f"neighbors are looked for in {spaces.layer}, {describe(spaces.kind, space)}, chosen by {spaces.chosen_by}"
    name = f"{spaces.layer} raw" if spaces.kind == "raw" else f"{spaces.layer} {space.exponent:g}"
    contrasts: Mapping[str, float] = spaces.contrasts
    if name not in contrasts or "pixels" not in contrasts:
        return [chosen]
    own, raw, pixels = contrasts[name], contrasts.get(f"{spaces.layer} raw", 0.0), contrasts["pixels"]
    verdict = "clearer than those of" if own > pixels else "no clearer than those of"
    advice = "" if own > pixels else "; train longer, or with milder views"
    return [
        chosen,
        f"its neighbors are {verdict} raw pixels: they stand {own:.1f} deviations above random pairs, those of raw "
        f"{spaces.layer} {raw:.1f}, those of pixels {pixels:.1f}{advice}",
    ]


def describe(kind: SpaceKind | None, space: Space | None) -> str:
    """The space in a few words."""
    return f"whitened by the power {space.exponent:g}" if kind == "whitened" and space is not None else "raw"


def measured_on(vectors: NDArray[np.float32]) -> tuple[Space | None, float, float]:
    """The space of embeddings [N, D] by their own contrast, that of the raw ones, and its own; None if too few."""
    if len(vectors) < LEAST_IMAGES or vectors.shape[1] > MAX_WIDTH:
        return None, 0.0, 0.0
    rows = draw_positions(len(vectors), limit=MEASURED_IMAGES, seed=0)
    space, contrasts = _choose_exponent(vectors[rows])
    return space, contrasts["raw"], contrasts[f"{space.exponent:g}"]


def _parts(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the images that judge, and of those that a space to be judged is measured on."""
    order = np.random.default_rng(0).permutation(count)
    judging = min(YARDSTICK_IMAGES, count // 3)
    return np.sort(order[:judging]), np.sort(order[judging:])


def _choose_exponent(vectors: NDArray[np.float32]) -> tuple[Space, dict[str, float]]:
    """The space of all rows with the exponent of the highest contrast, and the contrasts by exponent, and raw."""
    held_out, others = _parts(len(vectors))
    trial = measure_space(vectors[others], exponent=0.0)
    judged = vectors[held_out]
    contrasts = {"raw": neighborhood_contrast(judged)}
    by_exponent = {
        exponent: neighborhood_contrast(enter_space(judged, trial.with_exponent(exponent))) for exponent in EXPONENTS
    }
    best = max(EXPONENTS, key=lambda exponent: by_exponent[exponent])
    contrasts |= {f"{exponent:g}": value for exponent, value in by_exponent.items()}
    return measure_space(vectors, exponent=best), contrasts


def _embed_layers(
    model: Model, pixels: NDArray[np.uint8], *, progress: CountProgress | None
) -> dict[Layer, NDArray[np.float32]]:
    """h, and z where there is a projector, in one pass; the numbers are those of `embed_pixels`."""
    method, projector = model.embedder, projector_of(model.embedder)

    def forward(chunk: Tensor) -> tuple[Tensor, ...]:
        h = method.embed(model.preprocessing(chunk))
        return (h.float(),) if projector is None else (h.float(), projector(h).float())

    found = map_images(
        forward,
        pixels,
        size=model.manifest.size,
        device=model.device,
        precision=model.precision,
        progress=progress,
    )
    return {layer: vectors.numpy() for layer, vectors in zip(LAYERS, found, strict=False)}

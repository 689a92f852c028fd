"""Similarity of images, and where it stands among random pairs. `clr similarity` reaches this module."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import ClrError, DataError
from contrastive_cli.core.files import write_json
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.embeddings.similarity import cosine_matrix, percentile_of, random_pair_similarities
from contrastive_cli.services.embedding import Model, decode_all, embed_pixels, open_split

REFERENCE_IMAGES = 1000
REFERENCE_PAIRS = 20_000
QUANTILES = 1001


@dataclass(frozen=True, kw_only=True, slots=True)
class Similarities:
    """Cosines [N, N] of N images, and their percentiles among pairs of training images, by kind of pair.

    The kinds are `all`, and with labels `same` and `different` class; empty where the training images are absent.
    """

    paths: tuple[str, ...]
    cosines: NDArray[np.float64]
    percentiles: Mapping[str, NDArray[np.float64]]


def similarity(model: Model, paths: Sequence[Path]) -> Similarities:
    """Cosine similarities of the embeddings of image files.

    Raises:
        DataError: If one cannot be read; each is needed.
    """
    pixels, _, bad = decode_all(model, paths)
    if bad:
        raise bad[0]
    if len(paths) < 2:
        raise DataError(f"similarity compares two images or more (given: {len(paths)})")
    cosines = cosine_matrix(embed_pixels(model, pixels))
    percentiles = {kind: _percentiles(cosines, reference) for kind, reference in reference_pairs(model).items()}
    return Similarities(paths=tuple(map(str, paths)), cosines=cosines, percentiles=percentiles)


def reference_pairs(model: Model) -> dict[str, NDArray[np.float64]]:
    """Quantiles of the cosine of random pairs of training images, made once for a checkpoint and kept in the run.

    Empty when the training images cannot be had any more.
    """
    file = model.run.path / "eval" / "pair-similarities.json"
    if file.is_file():
        kept = json.loads(file.read_bytes())
        if kept["checkpoint"] == model.checkpoint:
            return {kind: np.array(values) for kind, values in kept["quantiles"].items()}
    try:
        images = open_split(model, find_dataset(model.config.dataset.name).pretrain_split)
    except DataError:
        return {}
    chosen = np.sort(np.random.default_rng(0).permutation(images.num_samples)[:REFERENCE_IMAGES])
    vectors = embed_pixels(model, images.images[chosen])
    labels = images.labels[chosen] if images.has_labels else None
    pairs = random_pair_similarities(vectors, num_pairs=REFERENCE_PAIRS, seed=0, labels=labels)
    samples = {"all": pairs.all_pairs, "same": pairs.same_class, "different": pairs.different_class}
    steps = np.linspace(0, 1, QUANTILES)
    quantiles = {
        kind: np.quantile(sample, steps) for kind, sample in samples.items() if sample is not None and len(sample)
    }
    try:
        write_json(file, {"checkpoint": model.checkpoint, "quantiles": {k: v.tolist() for k, v in quantiles.items()}})
    except ClrError:
        return quantiles  # a read-only run can still be used
    return quantiles


def _percentiles(cosines: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([[percentile_of(cosine, reference) for cosine in row] for row in cosines])

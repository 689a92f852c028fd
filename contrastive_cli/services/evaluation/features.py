"""Frozen features of the run and its baselines, raw and in the space of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.choices import SpaceKind
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.embeddings.space import Space, enter_space, measure_space
from contrastive_cli.services.evaluation.rows import Splits
from contrastive_cli.services.inference.measured_spaces import MEASURED_IMAGES, measured_on
from contrastive_cli.services.inference.model import Model, embed_pixels, random_model, start_model
from contrastive_cli.services.inference.pixels import flat_pixels
from contrastive_cli.services.inference.spaces import find_spaces


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Frozen features of the labeled train and test images, and the heads that are fitted to them."""

    name: str
    train: torch.Tensor
    test: torch.Tensor
    heads: Sequence[str]


def frozen_features(
    model: Model,
    splits: Splits,
    *,
    heads: Sequence[str],
    baselines: Sequence[str],
    kind: SpaceKind | None,
    crops: int,
    progress: CountProgress | None,
) -> Iterator[Features]:
    """The features of every row to come; `kind` and `crops` as `linear_eval.frozen_rows` has them."""
    train, test = splits.train.images, splits.test.images
    encoders = {"pretrained": model}
    if "start" in baselines:
        encoders["start"] = start_model(model)
    if "random" in baselines:
        encoders["random"] = random_model(model, seed=model.manifest.seed)
    space = None if kind == "raw" else _space(model, splits)
    for name, encoder in encoders.items():
        pair = [embed_pixels(encoder, images, crops=crops, progress=progress) for images in (train, test)]
        if kind != "whitened" or space is None:
            yield _as_features(name, pair, heads=heads)
        if space is None:
            continue
        if name != "pretrained":
            space = measure_space(pair[0][:MEASURED_IMAGES], exponent=space.exponent)
        # The head of the random baseline is of less interest, and fitting it takes long.
        fitted = [head for head in heads if head == "knn" or (head == "linear" and name == "pretrained")]
        yield _as_features(f"{name} whitened", [enter_space(vectors, space) for vectors in pair], heads=fitted)
    if "pixels" in baselines:
        yield Features(name="pixels", train=flat_pixels(train), test=flat_pixels(test), heads=heads)


def _as_features(name: str, pair: Sequence[NDArray[np.float32]], *, heads: Sequence[str]) -> Features:
    return Features(name=name, train=torch.from_numpy(pair[0]), test=torch.from_numpy(pair[1]), heads=heads)


def _space(model: Model, splits: Splits) -> Space | None:
    """The space of h of the run; where it has none, one that is measured on the training images of the evaluation."""
    spaces = find_spaces(model)
    if spaces is not None:
        return spaces.layers["h"]
    chosen = draw_positions(splits.train.num_samples, limit=MEASURED_IMAGES, seed=0)
    return measured_on(embed_pixels(model, np.asarray(splits.train.images[chosen])))[0]

"""What weights decide of a training that begins with them: encoder, size, how pictures are prepared, a gentler rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contrastive_cli.core.config import Tree, build, merge
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.framing import EncoderInput
from contrastive_cli.data.spec import DatasetSpec
from contrastive_cli.engine.optim import OptimConfig
from contrastive_cli.models.encoders import EncoderConfig
from contrastive_cli.models.weights.origins import Origin, encoder_of_weights, settle
from contrastive_cli.services.encoder_input import PreprocessConfig, with_input

TRAINING_SIZES = ("view_size", "stored_size")
GENTLER = 0.1  # of the learning rate that fresh weights get


def start_from_weights(tree: Tree, *, given: Mapping[str, Any], spec: DatasetSpec) -> Tree:
    """The tree of a configuration with what its weights decide filled in, below what a person says.

    Args:
        tree: Preset and what was given, merged.
        given: What a person says.
        spec: The dataset.

    Returns:
        The tree itself where no weights are named.

    Raises:
        UsageError: If there are no such weights, or no encoder is named and the weights do not say which.
        DataError, UnsafeFileError, RunError: If they cannot be read.
    """
    said = _node(given, "encoder")
    weights = _node(tree, "encoder").get("weights")
    if weights is None:
        return tree
    name = said.get("name")
    if name in (None, "auto"):
        name = encoder_of_weights(str(weights))
    settled = settle(build(EncoderConfig, {**said, "name": name, "weights": weights}))
    dataset, seen = _node(tree, "dataset"), settled.input
    size = _node(given, "dataset").get("size")
    is_small = spec.native_size is not None and spec.native_size < seen.size
    if is_small and (settled.origin.file is None or settled.origin.file.run is None):
        seen = replace(seen, framing=None)  # all of a small picture is shown
        size = size or dataset.get("size") or spec.size
    elif size is None:  # a preset's sizes go with its own encoder, and those of the views with the run that had them
        dataset = {key: value for key, value in dataset.items() if key not in ("size", *TRAINING_SIZES)}
        dataset |= _training_sizes(settled.origin)
        dataset |= {key: value for key, value in _node(given, "dataset").items() if value is not None}
    seen = _without_colors(seen, bands=dataset.get("bands"))
    asked = build(PreprocessConfig, _node(given, "preprocess"))
    preprocess, side = with_input(asked, seen, size=size)
    optim = dict(_node(tree, "optim"))
    if _node(given, "optim").get("lr") is None:
        optim["lr"] = GENTLER * optim.get("lr", OptimConfig().lr)
    return {
        **tree,
        "encoder": settled.config.model_dump(),
        "dataset": {**dataset, "size": side},
        "preprocess": merge(preprocess.model_dump(mode="json")),
        "optim": optim,
    }


def _training_sizes(origin: Origin) -> Tree:
    """The sizes of views and stored pictures that the run behind the weights trained with."""
    if origin.file is None or origin.file.run is None:
        return {}
    sizes = _node(origin.file.run.config(), "dataset")
    return {key: sizes[key] for key in TRAINING_SIZES if sizes.get(key) is not None}


def _without_colors(seen: EncoderInput, *, bands: object) -> EncoderInput:
    """Mean and deviation of colors say nothing of other bands, which are measured."""
    if not isinstance(bands, list | tuple) or len(bands) == len(seen.mean):
        return seen
    return replace(seen, mean=(), std=())


def _node(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = tree.get(key, {})
    if not isinstance(found, Mapping):
        raise UsageError(f"{key}: a mapping is needed (given: {found!r})")
    return found

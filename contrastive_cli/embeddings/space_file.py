"""The spaces of a run in one safetensors file, `space.safetensors` in the run directory; read as a stranger's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from contrastive_cli.core.choices import Layer, SpaceKind
from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings import safetensors_format
from contrastive_cli.embeddings.space import MAX_WIDTH, Space

SPACES_SCHEMA = "clr-space/1"
LAYERS: tuple[Layer, ...] = get_args(Layer)
KINDS: tuple[SpaceKind, ...] = get_args(SpaceKind)
PARTS = ("center", "axes", "spread")
MAX_SPACE_BYTES = len(LAYERS) * 4 * MAX_WIDTH * (MAX_WIDTH + 2) + (1 << 20)
MAX_CONTRASTS = 100


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunSpaces:
    """What the end of a training measured of its embeddings.

    Attributes:
        layers: The space of each layer, with the exponent that suits it.
        layer: The layer that was chosen.
        kind: Whether the chosen layer is compared in its space, or raw.
        chosen_by: How, in words.
        checkpoint: The sha256 of the checkpoint that made the embeddings.
        images: How many training images they were of.
        contrasts: The yardstick of `embeddings.contrast` by what was measured: "h raw", "h 0.75", "pixels".
    """

    layers: Mapping[Layer, Space]
    layer: Layer
    kind: SpaceKind
    chosen_by: str
    checkpoint: str
    images: int
    contrasts: Mapping[str, float]

    def facts(self) -> dict[str, Any]:
        """What was chosen, as plain values."""
        return {
            "layer": self.layer,
            "space": self.kind,
            "exponents": {layer: space.exponent for layer, space in self.layers.items()},
            "chosen_by": self.chosen_by,
            "checkpoint": self.checkpoint,
            "images": self.images,
            "contrasts": dict(self.contrasts),
        }


def encode_spaces(spaces: RunSpaces) -> bytes:
    """The content of the file."""
    arrays = {
        f"{layer}_{part}": np.ascontiguousarray(getattr(space, part))
        for layer, space in spaces.layers.items()
        for part in PARTS
    }
    return safetensors_format.encode(arrays, {}, json.dumps({"schema": SPACES_SCHEMA, **spaces.facts()}))


def decode_spaces(data: bytes) -> RunSpaces:
    """Read what `encode_spaces` wrote.

    Raises:
        DataError: If it is anything else.
    """
    try:
        values = safetensors_format.decode(data)
        if values.get("schema") != SPACES_SCHEMA:
            raise DataError("it is not a file of spaces")
        layers: dict[Layer, Space] = {
            layer: Space(
                **{part: np.asarray(values[f"{layer}_{part}"]) for part in PARTS},
                exponent=_number(values["exponents"][layer]),
            )
            for layer in LAYERS
            if f"{layer}_axes" in values
        }
        contrasts = {str(key)[:40]: _number(value) for key, value in dict(values["contrasts"]).items()}
        spaces = RunSpaces(
            layers=layers,
            layer=_one_of(LAYERS, values["layer"]),
            kind=_one_of(KINDS, values["space"]),
            chosen_by=str(values["chosen_by"])[:200],
            checkpoint=str(values["checkpoint"])[:64],
            images=int(values["images"]),
            contrasts=contrasts,
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"it is damaged: {type(error).__name__}") from None
    if spaces.layer not in spaces.layers or len(contrasts) > MAX_CONTRASTS:
        raise DataError("it lacks the layer that it names, or names too much")
    return spaces


def _one_of(known: tuple[Any, ...], value: Any) -> Any:
    if value not in known:
        raise ValueError("unknown choice")
    return value


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number

"""What the `config.json` beside an encoder says that `clr export` wrote: which encoder it is, and what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from contrastive_cli.core.config import Config, build_foreign
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.framing import LARGEST_SIDE, EncoderInput, Framing, Interpolation, ResizeRule
from contrastive_cli.core.pictures import MOST_CHANNELS

Positive = Annotated[float, Field(gt=0)]


class _Preprocessing(Config, extra="ignore"):
    size: int = Field(ge=1, le=LARGEST_SIDE)
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=MOST_CHANNELS)]
    std: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=MOST_CHANNELS)]
    resize: int = Field(ge=1, le=LARGEST_SIDE)
    rule: ResizeRule
    interpolation: Interpolation


def exported_encoder(config: Mapping[str, Any]) -> str | None:
    """The encoder that a `config.json` of ours names; None if it is somebody else's."""
    name = config.get("encoder")
    return name if isinstance(name, str) and isinstance(config.get("preprocessing"), Mapping) else None


def exported_input(config: Mapping[str, Any], *, origin: str) -> EncoderInput:
    """How pictures become what the exported encoder sees.

    Raises:
        DataError: If the file does not say it.
    """
    found = build_foreign(_Preprocessing, config["preprocessing"], origin=origin)
    if len(found.mean) != len(found.std) or found.resize < found.size:
        raise DataError(f"{origin} cannot be used: mean and std, or size and resize, do not fit together")
    framing: Framing | None = Framing(resize=found.resize, rule=found.rule, interpolation=found.interpolation)
    if framing == Framing(resize=found.size, rule="shorter", interpolation="bilinear"):
        framing = None  # so an export describes the rule of this package, which cuts the square out first
    return EncoderInput(size=found.size, framing=framing, mean=found.mean, std=found.std, origin=origin)

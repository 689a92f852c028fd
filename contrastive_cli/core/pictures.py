"""What a configuration and a manifest say of pictures with more than eight bits or more than three bands."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

MOST_CHANNELS = 16

PictureRange = tuple[float, float] | tuple[tuple[float, float], ...]
"""What becomes 0 and what becomes 255 of pictures with more than eight bits: for all bands, or one pair a band."""

AskedRange = PictureRange | Literal["auto"] | None
"""A range, or that it is to be measured, or that there is none: every picture by its type, as before version 0.3."""


def _read_range(value: Any) -> Any:
    if value is None:
        return None
    pairs = value if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple) else [value]
    for pair in pairs:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or not all(isinstance(end, int | float) and not isinstance(end, bool) for end in pair):
            raise ValueError("must be auto, [low, high], or such a pair for each of dataset.bands")
        if not all(map(math.isfinite, pair)) or pair[0] >= pair[1]:
            raise ValueError(f"must be two numbers, the smaller first, not [{pair[0]:g}, {pair[1]:g}]")
    if len(pairs) > MOST_CHANNELS:
        raise ValueError(f"has {len(pairs)} pairs, and there are at most {MOST_CHANNELS} bands")
    return value


def _read_asked(value: Any) -> Any:
    return value if value == "auto" else _read_range(value)


def _not_empty(bands: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(bands) <= MOST_CHANNELS:
        raise ValueError(f"must be 1 to {MOST_CHANNELS} bands, counted from 0, such as [0, 3, 2]")
    return bands


class _Asks(Protocol):
    range: AskedRange
    bands: tuple[int, ...] | None
    display_bands: tuple[int, ...] | None


Asking = TypeVar("Asking", bound=_Asks)


def refuse_misfit(dataset: Asking) -> Asking:
    """Ask that figures show bands that there are, and that ranges by band are as many as the bands."""
    asked, known, display_bands = dataset.range, dataset.bands or (), dataset.display_bands
    if display_bands is not None and (not set(display_bands) <= set(known) or len(display_bands) not in (1, 3)):
        raise ValueError("display_bands must be one or three of dataset.bands")
    pairs = len(asked) if isinstance(asked, tuple) and isinstance(asked[0], tuple) else 1
    if pairs > 1 and pairs != len(known):
        raise ValueError(f"range has {pairs} pairs, and dataset.bands chooses {len(known)} bands")
    return dataset


RangeField = Annotated[PictureRange | None, BeforeValidator(_read_range)]
AskedRangeField = Annotated[AskedRange, BeforeValidator(_read_asked)]
BandsField = Annotated[tuple[Annotated[int, Field(ge=0, lt=4096)], ...], AfterValidator(_not_empty)]

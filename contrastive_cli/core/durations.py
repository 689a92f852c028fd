"""Durations as people write them: 90s, 15m, 1h30m, 2d."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}  # seconds
_PARTS = "".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in UNITS)


def parse_duration(value: Any) -> Any:
    """Read "90s", "15m", "1h30m", "2d", or a number of seconds; what is no text passes through to the validator."""
    if not isinstance(value, str) or not value.strip():
        return value
    text = value.strip()
    return to_seconds(text + "s" if text[-1].isdecimal() else text)


def to_seconds(text: str) -> float:
    """Read "90s", "15m", "1h30m", "2d", "1w", the largest unit first, as seconds. Raises ValueError."""
    match = re.fullmatch(_PARTS, text, re.ASCII)
    if match is None or not text:
        raise ValueError("not a duration like 90s, 15m, 1h30m or 2d")
    seconds = sum(float(part or 0) * length for part, length in zip(match.groups(), UNITS.values(), strict=True))
    if not math.isfinite(seconds):
        raise ValueError("not a duration: too long a number")
    return seconds


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]

"""Durations as people write them: 90s, 15m, 1h30m."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def parse_duration(value: Any) -> Any:
    """Read "90s", "15m", "1h30m" or a number of seconds; other values pass through to the validator."""
    if not isinstance(value, str) or not value.strip():
        return value
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", value.strip())
    if match is None:
        raise ValueError("not a duration like 90s, 15m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]

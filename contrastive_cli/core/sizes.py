"""Sizes of files as people write them: 500MB, 20GB."""

from __future__ import annotations

import re

from contrastive_cli.core.errors import UsageError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_size(text: str, *, name: str) -> int:
    """Bytes that a text such as 500MB says.

    Args:
        text: A number, and B, KB, MB, GB or TB of a thousand each.
        name: What was given so, for the error.

    Raises:
        UsageError: If it is not a size.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)\s*([KMGT]?)B?", text.strip().upper(), re.ASCII)
    if found is None:
        raise UsageError(f"{name}={text[:40]!r} is not a size", hint="give it as 20GB or 500MB")
    return int(float(found[1]) * UNITS[found[2]])

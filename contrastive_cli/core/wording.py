"""Numbers with their nouns, as sentences need them."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 file`, `2 files`; a plural that is not made by an s is given."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"

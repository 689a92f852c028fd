"""Text of strangers as a terminal may get it: without control characters, on one line, not endless."""

from __future__ import annotations

LONGEST_MESSAGE = 2000


def clean(text: str) -> str:
    """The text without control characters (newlines stay) and without bytes that cannot be written."""
    kept = "".join(letter if letter == "\n" or letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return kept.encode("utf-8", "replace").decode()


def clean_line(text: str) -> str:
    r"""The text as `clean` leaves it, on one line: what breaks lines becomes `\n`."""
    return clean(text.replace("\n", "\\n"))


def one_line(text: str) -> str:
    """The text on one line, neither endless nor with control characters."""
    return clean_line(shortened(text))


def shortened(text: str) -> str:
    """At most about `LONGEST_MESSAGE` characters: a stranger's file may hold a name of a million."""
    if len(text) <= LONGEST_MESSAGE:
        return text
    half = LONGEST_MESSAGE // 2
    return f"{text[:half]} ... ({len(text) - 2 * half} characters left out) ... {text[-half:]}"

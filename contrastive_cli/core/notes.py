"""What the rooms below the command line have to say to people: how a folder was read, what was left out.

A line goes to Python's logger of this package; the command line shows it once on stderr, and a program that imports the
package hears nothing unless it listens.
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("contrastive_cli")


def note(text: str) -> None:
    """Say one line; warnings begin with "warning:"."""
    LOGGER.info("%s", text)

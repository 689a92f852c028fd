"""When the process began, for budgets that count from the moment that a person pressed return."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_start() -> float:
    """The start of this process by `time.monotonic`; now, where the system does not tell."""
    now = time.monotonic()
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    except (OSError, AttributeError, LookupError, ValueError):
        return now
    return now - max(0.0, age)

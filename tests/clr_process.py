"""Running `clr` as a user would, in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
TINY = ["--set", "encoder.width=4", "--set", "encoder.embedding_dim=32", "--batch-size", "128"]
TINY += ["--device", "cpu", "--precision", "fp32"]


@dataclass(frozen=True)
class Result:
    """What a finished command left: exit code and text."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)


Clr = Callable[..., Result]


def clr_environment(cache: Path) -> dict[str, str]:
    """A clean environment: own cache, one thread, the checkout importable, no color, no network."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("CLR_", "OMP_", "FORCE_COLOR", "COLUMNS", "LINES"))
    }
    importable = f"{REPOSITORY / 'tests' / 'no_network'}{os.pathsep}{REPOSITORY}"
    return {**kept, "CLR_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": importable, "NO_COLOR": "1"}


def clr_command(arguments: Sequence[str | Path]) -> list[str]:
    """The command line of `clr` in this interpreter."""
    return [sys.executable, "-m", "contrastive_cli", *map(str, arguments)]

"""What the tests of commands share: running `clr` as a user would, in a process of its own, and one trained run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
    """A clean environment: own cache, one thread, the checkout importable, no colour."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLR_", "OMP_", "FORCE_COLOR"))}
    return {**kept, "CLR_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}


def clr_command(arguments: Sequence[str | Path]) -> list[str]:
    """The command line of `clr` in this interpreter."""
    return [sys.executable, "-m", "contrastive_cli", *map(str, arguments)]


@pytest.fixture(scope="session")
def clr_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded images for all commands."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def clr(clr_cache: Path) -> Clr:
    """Run `clr` with arguments in a directory and return what it said."""

    def run(*arguments: str | Path, cwd: Path) -> Result:
        finished = subprocess.run(
            clr_command(arguments), cwd=cwd, env=clr_environment(clr_cache), capture_output=True, text=True, timeout=300
        )
        return Result(code=finished.returncode, out=finished.stdout, err=finished.stderr)

    return run


@pytest.fixture(scope="session")
def trained(clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `clr pretrain` has trained a small encoder on the digits for a few epochs."""
    folder = tmp_path_factory.mktemp("trained")
    result = clr("pretrain", *TINY, "--epochs", "6", "--out", "runs/small", cwd=folder)
    assert result.code == 0, result.err
    return folder

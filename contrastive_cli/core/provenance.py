"""Where a run comes from: the command, the versions of the programs and of the code, the time."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from importlib import metadata

from contrastive_cli import __version__


def versions() -> dict[str, str]:
    """The versions that can change a result."""
    known = {"clr": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "torchvision", "numpy", "scikit-learn", "pillow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            known[package] = metadata.version(package)
    return known


def git_revision() -> str | None:
    """The commit of the working directory, with `+` when it has changes; None outside git."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--match="]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def command_line() -> tuple[str, ...]:
    """The command as typed, with the program's bare name."""
    return ("clr", *(argument.encode("utf-8", "backslashreplace").decode() for argument in sys.argv[1:]))

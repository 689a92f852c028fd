"""Result files of a run: written atomically, entered in its manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import RunError
from contrastive_cli.core.files import write_json
from contrastive_cli.core.runs import Run


def write_result(run: Run, name: str, value: Mapping[str, Any]) -> Path:
    """Write `eval/<name>.json` into the run it evaluates."""
    file = run.path / "eval" / f"{name}.json"
    write_json(file, dict(value))
    enter_file(run, file, kind="evaluation")
    return file


def enter_file(run: Run, file: Path, *, kind: str) -> None:
    """Enter a file below the run's directory in its manifest; files elsewhere are the user's own.

    While the run is being trained its manifest belongs to the training, and the file stays without an entry.
    """
    if not file.resolve().is_relative_to(run.path.resolve()):
        return
    with contextlib.suppress(RunError), run.locked():
        run.add_artifact(run.path / file.resolve().relative_to(run.path.resolve()), kind=kind)

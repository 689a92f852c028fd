"""Result files of a run: written atomically, entered in its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastive_cli.core.files import write_json
from contrastive_cli.core.runs import Run


def write_result(run: Run, name: str, value: Mapping[str, Any]) -> Path:
    """Write `eval/<name>.json` into the run it evaluates."""
    file = run.path / "eval" / f"{name}.json"
    with run.locked():
        sha256 = write_json(file, dict(value))
        run.add_artifact(file, kind="evaluation", sha256=sha256)
    return file


def enter_file(run: Run, file: Path, *, kind: str) -> None:
    """Enter a file that was just written below the run's directory; files elsewhere are the user's own."""
    if file.resolve().is_relative_to(run.path.resolve()):
        with run.locked():
            run.add_artifact(run.path / file.resolve().relative_to(run.path.resolve()), kind=kind)

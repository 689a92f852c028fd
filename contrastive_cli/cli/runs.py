"""`clr runs`: what has been trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import Json, Quiet
from contrastive_cli.core.errors import RunError, UsageError

DEFAULT_ROOT = Path("runs")


def runs(
    root: Annotated[Path, typer.Argument(help="Folder that holds runs.")] = DEFAULT_ROOT,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the runs of a folder with their last loss and best evaluations."""
    from contrastive_cli.core.runs import read_runs
    from contrastive_cli.services.reporting import summarize

    output = Output(json=json, quiet=quiet)
    if not root.is_dir() and root != DEFAULT_ROOT:
        raise RunError(f"there is no folder {str(root)!r}", hint="give the folder that holds the runs", path=root)
    if (root / "manifest.json").is_file():
        raise UsageError(f"{root} is a run itself", hint=f"clr runs {root.parent} lists it")
    readable, damaged = read_runs(root)
    for error in damaged:
        output.note(f"left out: {error.message}")
    summaries = [summarize(run) for run in readable]
    if not summaries:
        output.note(f"no runs under {root}; `clr pretrain` starts one")
    output.table(
        title=f"runs under {root}",
        columns=["run", "status", "steps", "minutes", "loss", "online kNN", "linear"],
        rows=[
            [
                item["run"],
                item["status"],
                f"{item['step']}/{item['total_steps']}",
                f"{item['seconds'] / 60:.1f}",
                _number(item["loss"], "{:.3f}"),
                _number(item["online_knn"], "{:.1%}"),
                _number(item["linear"], "{:.1%}"),
            ]
            for item in summaries
        ],
    )
    if json:
        output.result({"runs": summaries}, "")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)

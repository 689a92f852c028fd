"""`clr runs`: what has been trained here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
    """List the runs of a folder: what they are, their last loss and what was measured on them.

    Online kNN is the part of training images that their 20 nearest neighbors vote into their class; linear that of
    test images that a linear head on frozen features classifies rightly, finetuned that of the finetuned encoder.
    Losses are comparable within one method, temperature and batch size.
    """
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
        columns=[
            *("run", "status", "method", "temperature", "seed", "precision", "steps", "epochs", "minutes"),
            *("loss", "online kNN", "linear", "finetuned"),
        ],
        rows=[_cells(item, mixed=len(set(map(_loss_scale, summaries))) > 1) for item in summaries],
    )
    if json:
        output.result({"runs": summaries}, "")


def _cells(item: Mapping[str, Any], *, mixed: bool) -> list[str]:
    loss = _number(item["loss"], "{:.3f}")
    if mixed and item["loss"] is not None:  # side by side they would look as if the lower were the better one
        temperature = item["temperature"]
        loss += f" ({item['method'] if temperature is None else f't {temperature:g}'})"
    return [
        item["run"],
        item["status"],
        item["method"],
        _number(item["temperature"], "{:g}"),
        str(item["seed"]),
        item["precision"],
        f"{item['step']}/{item['total_steps']}",
        _number(item["epochs"], "{:.4g}"),
        f"{item['seconds'] / 60:.1f}",
        loss,
        *(_number(item[key], "{:.1%}") for key in ("online_knn", "linear", "finetuned")),
    ]


def _loss_scale(item: Mapping[str, Any]) -> tuple[str, float | None]:
    """Losses are comparable where this is equal."""
    return item["method"], item["temperature"]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)

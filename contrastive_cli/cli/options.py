"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
RunName = Annotated[
    str | None, typer.Option("--run", help="Run directory or name; default: the newest finished run under runs/.")
]
DatasetName = Annotated[
    str | None, typer.Option("--dataset", help="Another dataset than the run's; see `clr datasets`.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the dataset's files are, or go.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch the dataset when it is absent.")]
MaxBad = Annotated[
    float | None,
    typer.Option("--max-bad", help="Largest part of unreadable image files to pass over; 0.01 if not given."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]

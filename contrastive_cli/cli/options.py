"""Options that several commands share, each written once, and what is done with them first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastive_cli.cli.completion import complete_datasets, complete_runs
from contrastive_cli.core.choices import SpaceKind
from contrastive_cli.core.errors import UsageError

if TYPE_CHECKING:
    from contrastive_cli.cli.console import Output
    from contrastive_cli.core.runs import Run

DATA, MODEL, OPTIMIZATION, RUN, OUTPUT = "Data", "Model", "Optimization", "Run", "Output"  # headings of `--help`

Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout instead of text.", rich_help_panel=OUTPUT),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.", rich_help_panel=OUTPUT)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=RUN)]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Run directory or name; default: the newest finished run under runs/.",
        autocompletion=complete_runs,
        rich_help_panel=RUN,
    ),
]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="Instead of a run: resnet9, resnet18, resnet34, resnet50 or timm/NAME; needs --weights or a tag of timm.",
        rich_help_panel=RUN,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="A published name of --encoder such as IMAGENET1K_V2 or pretrained, a file, an export, a run; or random.",
        rich_help_panel=RUN,
    ),
]
EncoderSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Of --encoder: dataset.size, preprocess.* and encoder.* fields, see docs; repeatable.",
        rich_help_panel=RUN,
    ),
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Another dataset than the run's; see `clr datasets`.",
        autocompletion=complete_datasets,
        rich_help_panel=DATA,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where the dataset's files are, or go.", rich_help_panel=DATA)
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch the dataset when it is absent.", rich_help_panel=DATA)
]
MaxBad = Annotated[
    float | None,
    typer.Option(
        "--max-bad",
        min=0,
        max=1,
        help="Largest part of a split's image files that may be unreadable; 0.01 if not given. Three are always passed "
        "over, unless it is 0.",
        rich_help_panel=DATA,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="CSV file of path and label that labels a folder of pictures; see docs/folders.md.",
        rich_help_panel=DATA,
    ),
]
Unlabeled = Annotated[
    bool,
    typer.Option(
        "--unlabeled",
        help="Take no labels: the folders of a folder of pictures are no classes.",
        rich_help_panel=DATA,
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="classes takes every folder of a folder of pictures for a class; auto if not given.",
        rich_help_panel=DATA,
    ),
]
TestSplit = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Labeled split to measure on, such as val; test, or val if that has no labels.",
        rich_help_panel=DATA,
    ),
]
SpaceName = Annotated[
    SpaceKind | None,
    typer.Option(
        "--space",
        help="raw, as the layer gives it, or whitened: centered, each principal axis divided by a power of its spread. "
        "Default: what the end of the training chose; see docs/space.md.",
        rich_help_panel=MODEL,
    ),
]
Crops = Annotated[
    int,
    typer.Option(
        "--crops",
        help="Pictures of an image that its embedding is the mean of: 1 itself, 2 and its mirror image, 6 and four "
        "large crops, 15 and nine smaller ones.",
        rich_help_panel=MODEL,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Write over a file of another origin; one of the same is replaced anyway.",
        rich_help_panel=OUTPUT,
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.", rich_help_panel=RUN)]


def chosen_run(
    name: str | None,
    output: Output,
    *,
    encoder: str | None = None,
    weights: str | None = None,
    sets: Sequence[str] | None = None,
) -> Run:
    """The run that --run names, or that is made of --encoder, or the newest finished one, which is named first.

    Raises:
        RunError: If there is none.
        UsageError: If both are named, or weights that do not say which encoder they are of.
    """
    from contrastive_cli.core.runs import Run, find_run

    if encoder is not None or weights is not None:
        refuse_beside("--encoder" if encoder is not None else "--weights", {"--run": name})
        from contrastive_cli.core.config import read_assignments

        assignments = read_assignments(sets or [])
        from contrastive_cli.services.importing.imported import imported_run

        return Run(imported_run(encoder, weights, sets=assignments))
    if sets:
        raise UsageError("--set is of an encoder that is named", hint="add --encoder NAME, such as resnet50")
    run = find_run(name)
    manifest = run.manifest()
    if name is None:
        output.note(f"using {run.path} ({manifest.method}, {manifest.encoder}, {_day_and_time(manifest.started)})")
    if manifest.status not in ("finished", "imported"):
        output.note(f"{run.name} is {manifest.status}, at step {manifest.step} of {manifest.total_steps}")
    return run


def _day_and_time(started: str) -> str:
    """`2026-11-28 10:02`, where this machine is; what cannot be read as a time stays."""
    try:
        return datetime.fromisoformat(started).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return started[:30]


def refuse_beside(given: str, others: Mapping[str, Any]) -> None:
    """Refuse options that would be ignored beside what was given.

    Raises:
        UsageError: If any of the others has a value.
    """
    ignored = [name for name, value in others.items() if value not in (None, False)]
    if ignored:
        raise UsageError(f"{', '.join(ignored)} would be ignored beside {given}", hint="leave one of them out")

"""`clr report`: all there is to say of a run, or of several, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contrastive_cli.cli.completion import complete_runs
from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import OUTPUT, DataDir, Device, Json, Quiet, Seed, chosen_run
from contrastive_cli.cli.waiting import waiting
from contrastive_cli.core.errors import UsageError


def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run directories or names; the newest finished run under runs/ if not given.",
            autocompletion=complete_runs,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write, .html; report.html in the run if not given.", rich_help_panel=OUTPUT),
    ] = None,
    limit: Annotated[int, typer.Option(min=3, max=20_000, help="Most test images on the map.")] = 2000,
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write all there is to say of a run on one page that opens and prints anywhere; of several, side by side.

    clr report

    clr report runs/first --out report.html

    clr report runs/first runs/second --out both.html
    """
    if out is not None and out.suffix.lower() != ".html":
        raise UsageError(f"--out {str(out)!r} is no .html file")
    asked = list(dict.fromkeys(names or []))
    if len(asked) > 1 and out is None:
        raise UsageError("a report of several runs belongs to none of them", hint="name the file: --out report.html")
    output = Output(json=json, quiet=quiet)
    runs = [chosen_run(name, output) for name in asked] or [chosen_run(None, output)]
    target = out or runs[0].path / "report.html"
    from contrastive_cli.services.report.written import make_report

    with waiting(output, counted="embedding and laying out") as work:
        made = make_report(
            runs,
            out=target,
            limit=limit,
            data_dir=data_dir,
            device=device,
            seed=seed,
            progress=work.count,
            say=work.say,
        )
    for name, verdict in made.verdicts:
        output.note(f"{name}: {verdict}" if len(runs) > 1 else verdict)
    for missing in made.missing:
        output.note(f"missing: {missing.what}")
        output.note(f"  {missing.command}")
    facts = {
        "file": str(target),
        "runs": [str(run.path) for run in runs],
        "verdicts": [verdict for _, verdict in made.verdicts],
        "missing": [{"what": one.what, "command": one.command} for one in made.missing],
    }
    output.result(facts, str(target))

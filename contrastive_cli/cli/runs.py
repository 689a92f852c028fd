"""`clr runs`: what has been trained here, listed, shown, compared, removed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastive_cli.cli.command_groups import ListsByDefault
from contrastive_cli.cli.completion import complete_runs
from contrastive_cli.cli.console import MOST_NARROW_COLUMNS, Lines, Output, agrees, print_csv
from contrastive_cli.cli.help_text import GroupedCommand
from contrastive_cli.cli.options import OUTPUT, Json, Quiet
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.wording import counted

if TYPE_CHECKING:
    from contrastive_cli.core.removal import Removal
    from contrastive_cli.services.compared_runs import Comparison, Measure

DEFAULT_ROOT = Path("runs")
SHOWN_FOREIGN = 3

Csv = Annotated[bool, typer.Option("--csv", help="Print CSV on stdout instead of text.", rich_help_panel=OUTPUT)]
RunNames = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run directories or names.", autocompletion=complete_runs)
]

runs = typer.Typer(
    cls=ListsByDefault,
    help="List, show, compare and remove runs; `clr runs` alone lists those under runs/.",
    rich_markup_mode=None,
)


@runs.command("list", cls=GroupedCommand)
def list_command(
    root: Annotated[Path, typer.Argument(help="Folder that holds runs.")] = DEFAULT_ROOT,
    csv: Csv = False,
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

    output = _output(csv=csv, json=json, quiet=quiet)
    if not root.is_dir() and root != DEFAULT_ROOT:
        raise RunError(
            f"there is no folder {str(root)!r}",
            hint="give the folder that holds the runs, or one of list, show, compare and remove",
            path=root,
        )
    if (root / "manifest.json").is_file():
        raise UsageError(f"{root} is a run itself", hint=f"clr runs {root.parent} lists it")
    readable, damaged = read_runs(root)
    for error in damaged:
        output.note(f"left out: {error.message}")
    summaries = [summarize(run) for run in readable]
    if not summaries:
        output.note(f"no runs under {root}; `clr pretrain` starts one")
    if csv:
        print_csv(summaries)
        return
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


@runs.command("show", cls=GroupedCommand)
def show_command(
    run: Annotated[str, typer.Argument(help="Run directory or name.", autocompletion=complete_runs)],
    csv: Csv = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show one run: how it was made, what was measured on it, and its files.

    clr runs show runs/first
    """
    from contrastive_cli.core.runs import find_run
    from contrastive_cli.services.reporting import describe_run

    output = _output(csv=csv, json=json, quiet=quiet)
    found = find_run(run)
    facts, files = describe_run(found)
    if csv:
        print_csv([{"what": key, "value": value} for key, value in facts.items()])
        return
    output.table(title=f"{found.path}", columns=["what", "value"], rows=[[key, _text(facts[key])] for key in facts])
    output.table(
        title="files",
        columns=["file", "kind", "size"],
        rows=[[name, kind, _size(size)] for name, kind, size in files],
    )
    if json:
        listed = [{"file": name, "kind": kind, "bytes": size} for name, kind, size in files]
        output.result({**facts, "files": listed}, "")


@runs.command("compare", cls=GroupedCommand)
def compare_command(names: RunNames, csv: Csv = False, json: Json = False, quiet: Quiet = False) -> None:
    """Compare runs: only the options that differ, and what was measured; runs that differ in the seed are one column.

    clr runs compare runs/first runs/second
    """
    from contrastive_cli.core.runs import find_run
    from contrastive_cli.services.compared_runs import compare_runs

    output = _output(csv=csv, json=json, quiet=quiet)
    found = [find_run(name) for name in names]
    if len({run.path.resolve() for run in found}) < 2:
        raise UsageError("a comparison needs two runs", hint="clr runs compare RUN RUN")
    show_comparison(compare_runs(found), output, csv=csv)


@runs.command("remove", cls=GroupedCommand)
def remove_command(
    names: RunNames,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove runs with all their files, after asking; only directories that carry a manifest of clr, never a link.

    clr runs remove runs/first --yes
    """
    from contrastive_cli.core.removal import plan_removal, remove_run
    from contrastive_cli.core.runs import find_run

    output = Output(json=json, quiet=quiet)
    plans = [plan_removal(find_run(name)) for name in dict.fromkeys(names)]  # all, before the first one is removed
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked whether to remove", hint="pass --yes to remove without asking")
    removed = []
    for plan in plans:
        if yes or agrees(_question(plan)):
            remove_run(plan.run)
            removed.append(str(plan.run.path))
        else:
            output.note(f"{plan.run.path} stays")
    if json or removed:
        output.result({"removed": removed}, "\n".join(f"removed {path}" for path in removed))


def show_comparison(comparison: Comparison, output: Output, *, csv: bool = False) -> None:
    """Print a comparison as a table, as CSV or as JSON."""
    if csv:
        print_csv([_row(group) for group in comparison.to_dict()["groups"]])
        return
    from contrastive_cli.services.compared_runs import MEASURES

    groups = comparison.groups
    rows = [[key, *map(_text, values)] for key, values in comparison.differing.items()]
    for key, (name, is_part) in MEASURES.items():
        if any(key in group.measures for group in groups):
            rows.append([name, *(describe_measure(group.measures.get(key), is_part=is_part) for group in groups)])
    count = counted(sum(len(group.runs) for group in groups), "run")
    seeds = len({seed for group in groups for seed in group.seeds})
    alike = "that differ in the seed" if seeds > 1 else "that are equal in all options"
    title = f"{count}, what differs" if len(groups) > 1 else f"{count} {alike}"
    if any(len(set(group.seeds)) < len(group.seeds) for group in groups):
        output.note("of runs that are equal in the seed too, the first is measured")
    names = [group.name for group in groups]
    cells = [[key, name, value] for key, *values in rows for name, value in zip(names, values, strict=True)]
    one_each = Lines(title=title, columns=["what", "run", "value"], rows=cells)
    is_wide = len(names) >= MOST_NARROW_COLUMNS
    output.table(title=title, columns=["", *names], rows=rows, piped=[one_each] if is_wide else [])
    if output.json:
        output.result(comparison.to_dict(), "")


def describe_measure(measure: Measure | None, *, is_part: bool) -> str:
    """`91.2 %`, or with the 95 % interval of the mean: `91.2 % (90.1 - 92.3)`."""
    if measure is None:
        return "-"
    scale, form = (100, "{:.1f}") if is_part else (1, "{:.4g}")
    text = form.format(scale * measure.mean) + (" %" if is_part else "")
    if measure.interval is None or len(set(measure.values)) == 1:
        return text
    low, high = (form.format(scale * end) for end in measure.interval)
    return f"{text} ({low} - {high})"


def _output(*, csv: bool, json: bool, quiet: bool) -> Output:
    if csv and json:
        raise UsageError("--csv and --json exclude each other")
    return Output(json=json, quiet=quiet)


def _question(plan: Removal) -> str:
    more = ""
    if plan.foreign:
        shown = ", ".join(plan.foreign[:SHOWN_FOREIGN]) + (", ..." if len(plan.foreign) > SHOWN_FOREIGN else "")
        more = f"; its manifest does not name {shown}"
    return f"remove {plan.run.path} ({counted(plan.files, 'file')}, {_size(plan.bytes)}{more})?"


def _row(group: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": group["name"], "runs": len(group["runs"]), "seeds": group["seeds"]}
    row |= group["options"]
    for key, one in group["measures"].items():
        low, high = one["ci95"] or (None, None)
        row |= {key: one["mean"], f"{key}_low": low, f"{key}_high": high}
    return row


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


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

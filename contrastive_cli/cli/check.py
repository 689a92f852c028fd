"""`clr datasets check`: what is wrong with the pictures, before anything is trained on them."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import (
    RUN,
    DataDir,
    Device,
    Download,
    EncoderName,
    Json,
    Labels,
    Layout,
    Overwrite,
    Quiet,
    Unlabeled,
    Weights,
    chosen_run,
    refuse_beside,
)
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.files import TABLES, is_table

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run
    from contrastive_cli.services.curation.advice import Advice
    from contrastive_cli.services.curation.check import DataCheck
    from contrastive_cli.services.dataset_config import DatasetConfig

WIDTH = 100  # columns of a line, where no name is longer
SHOWN = 3  # examples of each list; --out and --json have all
PAGE = ".html"


def check(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Folder of pictures.")] = None,
    dataset: Annotated[str | None, typer.Option(help="A dataset instead of a folder; see `clr datasets`.")] = None,
    run: Annotated[
        str | None,
        typer.Option(
            help="Run whose encoder compares the pictures; without it and --encoder, small gray thumbnails do.",
            rich_help_panel=RUN,
        ),
    ] = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    near: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=1, help="Least similarity of nearly equal pictures; if not given, 0.98 or what suits them."
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(help=".csv or .jsonl for all lists, .html for a page with the pictures; repeatable."),
    ] = None,
    overwrite: Overwrite = False,
    data_dir: DataDir = None,
    labels: Labels = None,
    unlabeled: Unlabeled = False,
    layout: Layout = None,
    download: Download = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look for what spoils a training: leaks, duplicates, wrong labels, unreadable and odd pictures. Changes nothing.

    clr datasets check photos --out check.html --out check.csv

    clr datasets check --dataset cifar10 --data-dir data --run runs/mine
    """
    if (folder is None) == (dataset is None):
        raise UsageError(
            "a folder or --dataset says what is checked",
            hint="clr datasets check DIR, or clr datasets check --dataset NAME",
        )
    if folder is not None:
        refuse_beside("a folder", {"--data-dir": data_dir, "--download": download})
        if not folder.is_dir():
            name = f" --dataset {folder.name}" if folder.name.isidentifier() else " --dataset NAME"
            raise DataError(f"{str(folder)!r} is no folder", hint=f"a dataset is checked by{name}", path=folder)
    if run is None and encoder is None:
        others = {"--weights": weights, "--device": None if device == "auto" else device}
        refuse_beside("neither --run nor --encoder", others)
    if unlabeled and labels is not None:
        raise UsageError("--labels and --unlabeled exclude each other")
    _refuse_targets(out or [], overwrite=overwrite)
    output = Output(json=json, quiet=quiet)
    from contrastive_cli.data.datasets import FOLDER_DATASET
    from contrastive_cli.data.own_datasets import name_dataset
    from contrastive_cli.data.sources import known_layout
    from contrastive_cli.services.dataset_config import DatasetConfig

    config = DatasetConfig(
        name=FOLDER_DATASET if dataset is None else name_dataset(dataset),
        data_dir=folder if folder is not None else data_dir,
        labels=labels,
        unlabeled=unlabeled,
        layout=known_layout(layout),
        download=download,
    )
    compared_by = None
    if run is not None or encoder is not None:
        compared_by = chosen_run(run, output, encoder=encoder, weights=weights)
    found, advice = _check(config, run=compared_by, near=near, device=device, output=output)
    from contrastive_cli.services.curation.check_files import check_values, write_check_page, write_check_table

    for target in out or []:
        if is_table(target):
            write_check_table(found, target)
        else:
            write_check_page(found, advice, target)
    files = [str(target) for target in out or []]
    output.result({**check_values(found, advice), "files": files} if json else {}, _text(found, advice, files))


def _refuse_targets(targets: list[Path], *, overwrite: bool) -> None:
    from contrastive_cli.services.outputs import refuse_page, refuse_table

    for target in targets:
        if not is_table(target) and target.suffix.lower() != PAGE:
            known = ", ".join((*TABLES, PAGE))
            raise UsageError(f"--out {str(target)!r} has no known suffix; known are {known}")
        refuse_table(target, overwrite=overwrite)
        refuse_page(target, overwrite=overwrite)


def _check(
    config: DatasetConfig, *, run: Run | None, near: float | None, device: str, output: Output
) -> tuple[DataCheck, Advice]:
    from contrastive_cli.services.curation.advice import advise
    from contrastive_cli.services.curation.check import check_pictures
    from contrastive_cli.services.curation.pictures import open_pictures

    model = None
    if run is not None:
        from contrastive_cli.services.inference.model import load_model

        model = load_model(run, device=device)
    pictures = open_pictures(config)
    found = check_pictures(pictures, model=model, near=near, counting=output.counting)
    return found, advise(pictures, found.measures)


def _text(found: DataCheck, advice: Advice, files: list[str]) -> str:
    """What the pictures are, each list with its first pictures, what was not found, and what to train with."""
    from contrastive_cli.core.wording import counted
    from contrastive_cli.services.curation.check_files import summary_lines
    from contrastive_cli.services.curation.findings import CHECKS, count_of, of_kind

    lines = summary_lines(found)
    clean = []
    for kind, about in CHECKS.items():
        findings = of_kind(found.findings, kind)
        if not findings:
            clean.append(about.title[0].lower() + about.title[1:])
            continue
        count = count_of(findings, kind)
        lines += ["", f"{about.title}: {counted(count, about.noun, 'classes' if about.noun == 'class' else None)}"]
        for group in range(1, min(count, SHOWN) + 1):
            members = [finding for finding in findings if finding.group == group]
            names = [_shown(finding.path or finding.label or "without a label") for finding in members[:4]]
            more = f" and {len(members) - 4} more" if len(members) > 4 else ""
            first = members[0]
            facts = [fact for fact in (first.label if first.path else "", _number(first.value), first.note) if fact]
            said = f" ({', '.join(facts)})" if facts else ""
            lines += _group_lines(names, f"{more}{said}")
        if count > SHOWN:
            lines.append(f"  ... {count - SHOWN} more")
    if clean:
        lines += ["", *textwrap.wrap(f"none of: {'; '.join(clean)}", WIDTH, subsequent_indent="  ")]
    lines += ["", "suggested:", *_typed_lines(advice.words), *(f"  {reason}" for reason in advice.reasons)]
    return "\n".join([*lines, *(["", *files] if files else [])])


def _group_lines(names: list[str], end: str) -> list[str]:
    """Pictures that are the same, on one line where it is a short one."""
    line = f"  {' = '.join(names)}{end}"
    return [line] if len(line) <= WIDTH else ["  " + "\n    = ".join(names) + end]


def _typed_lines(words: Sequence[str]) -> list[str]:
    r"""A command in lines with `\` at their ends, broken before options only: it can be copied whole."""
    lines = [""]
    for word in words:
        typed = shlex.quote(word)
        if word.startswith("--") and len(lines[-1]) > WIDTH // 2:
            lines.append("     ")
        lines[-1] += f" {typed}"
    return [f" {line} \\" for line in lines[:-1]] + [f" {lines[-1]}"]


def _shown(name: str) -> str:
    """A stranger's name on one line."""
    return name.replace("\n", "\\n")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

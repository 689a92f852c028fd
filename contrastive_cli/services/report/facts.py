"""What the record of a run says: how it was made and is made again, how it went, how long; and where runs differ."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from contrastive_cli.core.manifest import Manifest, checkpoints_of
from contrastive_cli.core.runs import Run
from contrastive_cli.services.compared_runs import MEASURES, Measure, compare_runs
from contrastive_cli.services.report.embedded import Embedded
from contrastive_cli.services.report.heads import has_own_images
from contrastive_cli.services.report.pairs import PairRow
from contrastive_cli.services.report.probe import Probe
from contrastive_cli.services.reporting import summarize
from contrastive_cli.viz.compared_curves import compared_curves
from contrastive_cli.viz.curves import curves
from contrastive_cli.viz.report_page import Block, Code, Missing, Sentence, Table, draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A run, what was measured on it, and what its encoder makes of test images."""

    run: Run
    manifest: Manifest
    records: Sequence[Mapping[str, float]]
    probe: Probe | None
    pairs: Sequence[PairRow]
    embedded: Embedded | Missing

    @property
    def judged(self) -> bool:
        """Whether a head can be judged on the test images."""
        return isinstance(self.embedded, Missing) or self.embedded.judged


def run_blocks(subject: Subject, *, alone: bool) -> list[Block]:
    """What was run, unless the runs stand side by side, where only differences are shown; and the commands."""
    run, manifest = subject.run, subject.manifest
    summary, newest = summarize(run), checkpoints_of(manifest.artifacts)
    facts = {
        "method": manifest.method + (f", finetuned from {manifest.parent.run}" if manifest.parent else ""),
        "encoder": manifest.encoder,
        "steps": f"{manifest.step:,} of {manifest.total_steps:,}",
        "epochs": _text(summary["epochs"]),
        "batch size": _text(summary["batch_size"]),
        "temperature": _text(summary["temperature"]),
        "seed": str(manifest.seed),
        "checkpoint": f"sha256 {newest[0][1].sha256[:16]}" if newest else "none",
        "code": f"clr {manifest.versions.get('clr', '-')}" + (f", commit {manifest.git}" if manifest.git else ""),
    }
    table = Table(head=(), rows=tuple((key, value) for key, value in facts.items() if value != "-"), wordy=True)
    blocks: list[Block] = [table] if alone else []
    if manifest.weights is not None and not has_own_images(run):
        origin = f"Nothing was trained here: the weights are {manifest.weights.source}. The first command with them:"
        return [*blocks, Sentence(text=origin), Code(text=shlex.join(manifest.command))]
    blocks += [Sentence(text="It was started by:"), Code(text=shlex.join(manifest.command))]
    if manifest.parent is None:
        config = run.path / "config.yaml"
        blocks += [
            Sentence(text="The same again, from the configuration that it kept, on the same images:"),
            Code(text=shlex.join(["clr", "pretrain", "--config", str(config), "--out", f"{run.path}-again"])),
        ]
    if manifest.status != "finished":
        command = shlex.join(["clr", "pretrain", "--resume", str(run.path)])
        blocks.append(Missing(what=f"The training is {manifest.status}.", command=command))
    return blocks


def difference_blocks(runs: Sequence[Run]) -> list[Block]:
    """The options that differ, and what was measured, a column a run; runs that differ in the seed are one column."""
    comparison = compare_runs(runs)
    rows = [(key, *(_text(value) for value in values)) for key, values in comparison.differing.items()]
    for key, (name, is_part) in MEASURES.items():
        cells = [_measure(group.measures.get(key), is_part=is_part) for group in comparison.groups]
        if set(cells) != {"-"}:
            rows.append((name, *cells))
    head = ("", *(group.name for group in comparison.groups))
    text = "They differ in the seed alone." if len(comparison.groups) == 1 else "All other options are equal."
    return [Sentence(text=text), Table(head=head, rows=tuple(rows))]


def training_blocks(subjects: Sequence[Subject]) -> list[Block]:
    """The curves: of one run with its reference lines, of several in one figure."""
    known = [one for one in subjects if one.records]
    missing: list[Block] = [
        Missing(
            what=f"{one.run.name} has no metrics yet.",
            command=shlex.join(["clr", "pretrain", "--resume", str(one.run.path)]),
        )
        for one in subjects
        if not one.records and has_own_images(one.run)
    ]
    if not known:
        return missing
    if len(known) == 1:
        (one,) = known
        figure = partial(_curves, one.records, one.run.name)
        return [draw(figure, alt=f"curves of {one.run.name}"), *missing]
    records = {unique_name(known, number): one.records for number, one in enumerate(known)}
    return [draw(partial(_compared_curves, records), alt="curves of the runs"), *missing]


def time_blocks(subject: Subject) -> list[Block]:
    """How long it took on what."""
    manifest = subject.manifest
    rates = [record["views_per_second"] for record in subject.records if "views_per_second" in record]
    facts = {
        "trained for": f"{manifest.seconds / 60:.1f} minutes",
        "started": day_and_time(manifest.started),
        "ended": "-" if manifest.ended is None else day_and_time(manifest.ended),
        "views a second, median": f"{median(rates):,.0f}" if rates else "-",
        "device": manifest.device,
        "threads": str(manifest.threads),
        "number format": manifest.precision,
        **{name: version for name, version in manifest.versions.items() if name != "clr"},
    }
    return [Table(head=(), rows=tuple((key, value) for key, value in facts.items() if value != "-"), wordy=True)]


def _measure(measure: Measure | None, *, is_part: bool) -> str:
    if measure is None:
        return "-"
    scale, digits = (100, ".1f") if is_part else (1, ".4g")
    text = f"{scale * measure.mean:{digits}}" + (" %" if is_part else "")
    if measure.interval is None or len(set(measure.values)) == 1:
        return text
    low, high = (f"{scale * end:{digits}}" for end in measure.interval)
    return f"{text} ({low} - {high})"


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def day_and_time(text: str) -> str:
    """`2026-11-27 14:10 UTC`; what cannot be read as a time stays."""
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text[:30]


def unique_name(subjects: Sequence[Subject], number: int) -> str:
    """The run's name; its path where two are named alike."""
    names = [one.run.name for one in subjects]
    return names[number] if names.count(names[number]) == 1 else str(subjects[number].run.path)


def _curves(records: Sequence[Mapping[str, float]], name: str, path: Path) -> None:
    curves(records, path=path, title=name)


def _compared_curves(records: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    caption = "dotted: the loss of chance, and aligned"
    compared_curves(records, path=path, title=f"{len(records)} runs", caption=caption)

"""The report of one run or several, section by section. `clr report` reaches this module."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.manifest import Manifest
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress, Say
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.compared_runs import MEASURES, Measure, compare_runs
from contrastive_cli.services.metrics import read_metrics
from contrastive_cli.services.report.data_sheet import data_blocks
from contrastive_cli.services.report.embedded import (
    Embedded,
    certainty_blocks,
    embed_test_images,
    map_blocks,
    retrieval_blocks,
)
from contrastive_cli.services.report.probe import (
    Probe,
    chosen_predictions,
    class_blocks,
    fraction_blocks,
    probe_blocks,
    read_probe,
    verdict,
)
from contrastive_cli.services.reporting import summarize
from contrastive_cli.viz.compared_curves import compared_curves
from contrastive_cli.viz.curves import curves
from contrastive_cli.viz.report_page import (
    Block,
    Code,
    Column,
    Missing,
    Report,
    Section,
    Sentence,
    Table,
    draw,
    write_report,
)

MOST_RUNS: Final = 8
Blocks = Callable[["Subject"], list[Block]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A run, what was measured on it, and what its encoder makes of test images."""

    run: Run
    manifest: Manifest
    records: Sequence[Mapping[str, float]]
    probe: Probe | None
    embedded: Embedded | Missing


def make_report(
    runs: Sequence[Run],
    *,
    out: Path,
    limit: int,
    data_dir: Path | None,
    device: str,
    seed: int,
    progress: CountProgress | None = None,
    say: Say,
) -> Report:
    """Collect and measure what there is to say of the runs, and write it as one page.

    Args:
        runs: One, or several to stand side by side.
        out: An .html file.
        limit: Most test images that are embedded, for the map and the neighbors.
        data_dir: Where the images are, if they moved.
        device: That embeds.
        seed: Draws those images, and lays the map out.
        progress: Called with (done, total) of what is at hand.
        say: Called with what that is.

    Raises:
        UsageError: If there are more runs than fit side by side.
        RunError: If a run or the file cannot be used.
    """
    if len(runs) > MOST_RUNS:
        hint = "`clr runs compare` takes any number"
        raise UsageError(f"a report shows {MOST_RUNS} runs at most, not {len(runs)}", hint=hint)
    subjects = []
    for run in runs:
        say(f"embedding test images of {run.name}")
        embedded = embed_test_images(run, limit=limit, data_dir=data_dir, device=device, seed=seed, progress=progress)
        subjects.append(
            Subject(
                run=run,
                manifest=run.manifest(),
                records=read_metrics(run),
                probe=read_probe(run),
                embedded=embedded,
            )
        )
    report = Report(
        title=f"Report of {runs[0].name}" if len(runs) == 1 else f"Report of {len(runs)} runs",
        subtitle=_subtitle(subjects),
        verdicts=tuple((subject.run.name, verdict(subject.probe)) for subject in subjects),
        sections=tuple(_sections(subjects, data_dir=data_dir, seed=seed, progress=progress, say=say)),
    )
    write_report(report, out)
    if len(runs) == 1:
        register_artifact(runs[0], out, kind="report")
    return report


def _sections(
    subjects: Sequence[Subject], *, data_dir: Path | None, seed: int, progress: CountProgress | None, say: Say
) -> list[Section]:
    def section(anchor: str, title: str, explained: str, blocks: Blocks) -> Section:
        say(title.lower())
        several = len(subjects) > 1
        columns = (Column(name=one.run.name if several else "", blocks=tuple(blocks(one))) for one in subjects)
        return Section(anchor=anchor, title=title, explained=explained, columns=tuple(columns))

    def shared(anchor: str, title: str, explained: str, blocks: Sequence[Block]) -> Section:
        column = Column(name="", blocks=tuple(blocks))
        return Section(anchor=anchor, title=title, explained=explained, columns=(column,))

    found = []
    if len(subjects) > 1:
        found.append(shared("differences", "What differs", "", _difference_blocks([one.run for one in subjects])))
    found += [
        section("run", "What was run, and how to repeat it", "", _run_blocks),
        section("data", "The images", "", lambda one: data_blocks(one.run, data_dir=data_dir)),
        shared("training", "The training", _ABOUT_TRAINING, _training_blocks(subjects)),
        section("probe", "What the features are worth", _ABOUT_PROBE, lambda one: probe_blocks(one.run, one.probe)),
        section("labels", "Accuracy over labels", "", lambda one: fraction_blocks(one.run, one.probe)),
        section("classes", "Class by class", "", lambda one: class_blocks(one.run, chosen_predictions(one.run))),
        section(
            "map", "The map", _ABOUT_MAP, lambda one: map_blocks(one.run, one.embedded, seed=seed, progress=progress)
        ),
        section(
            "neighbors", "Nearest neighbors", _ABOUT_NEIGHBORS, lambda one: retrieval_blocks(one.embedded, seed=seed)
        ),
        section(
            "certainty",
            "The surest and the least sure images",
            "",
            lambda one: certainty_blocks(one.run, one.embedded, chosen_predictions(one.run), data_dir=data_dir),
        ),
        section("time", "Time and hardware", "", _time_blocks),
    ]
    return found


_ABOUT_TRAINING: Final = (
    "The loss falls from chance (nothing learned) toward aligned (perfect), where a method knows these. Online kNN is "
    "the part of training images that their 20 nearest neighbors vote into their class. A spread of 0 means that all "
    "images get the same embedding; the rank is the number of dimensions that the embedding fills."
)
_ABOUT_PROBE: Final = (
    "A head is fitted on frozen features of labeled training images and judged on test images, which decide nothing "
    "before. The baselines are given the same labels. Intervals are of 95 %."
)
_ABOUT_MAP: Final = "Test images that the encoder finds alike lie together; distances between far groups say little."
_ABOUT_NEIGHBORS: Final = (
    "Test images with the nearest other ones by the cosine of their embeddings. Green frames are of the same class, "
    "dashed orange ones of another."
)


def _subtitle(subjects: Sequence[Subject]) -> str:
    manifest = subjects[0].manifest
    if len(subjects) > 1:
        names = sorted({one.manifest.dataset.name for one in subjects})
        return f"{', '.join(one.run.name for one in subjects)}, on {', '.join(names)}"
    state = "" if manifest.status == "finished" else f", {manifest.status} at step {manifest.step}"
    return f"{manifest.method}, {manifest.encoder}, on {manifest.dataset.name}, {_day(manifest.started)}{state}"


def _day(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text[:30]


def _difference_blocks(runs: Sequence[Run]) -> list[Block]:
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


def _run_blocks(subject: Subject) -> list[Block]:
    run, manifest = subject.run, subject.manifest
    summary = summarize(run)
    facts = {
        "method": manifest.method
        if manifest.parent is None
        else f"{manifest.method}, finetuned from {manifest.parent.run}",
        "encoder": manifest.encoder,
        "steps": f"{manifest.step:,} of {manifest.total_steps:,}",
        "epochs": _text(summary["epochs"]),
        "batch size": _text(summary["batch_size"]),
        "temperature": _text(summary["temperature"]),
        "seed": str(manifest.seed),
        "checkpoint": next((f"sha256 {one.sha256[:16]}" for one in _checkpoints(manifest)), "none"),
        "code": f"clr {manifest.versions.get('clr', '-')}" + (f", commit {manifest.git}" if manifest.git else ""),
    }
    blocks: list[Block] = [
        Table(head=(), rows=tuple((key, value) for key, value in facts.items() if value != "-"), wordy=True),
        Sentence(text="It was started by:"),
        Code(text=shlex.join(manifest.command)),
    ]
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


def _checkpoints(manifest: Manifest) -> list[Any]:
    from contrastive_cli.core.manifest import checkpoints_of

    return [artifact for _, artifact in checkpoints_of(manifest.artifacts)]


def _training_blocks(subjects: Sequence[Subject]) -> list[Block]:
    """The curves: of one run with its reference lines, of several in one figure."""
    known = [one for one in subjects if one.records]
    missing: list[Block] = [
        Missing(
            what=f"{one.run.name} has no metrics yet.",
            command=shlex.join(["clr", "pretrain", "--resume", str(one.run.path)]),
        )
        for one in subjects
        if not one.records
    ]
    if not known:
        return missing
    if len(known) == 1:
        (one,) = known
        figure = partial(_curves, one.records, one.run.name)
        return [draw(figure, alt=f"curves of {one.run.name}"), *missing]
    records = {_unique(known, number): one.records for number, one in enumerate(known)}
    return [draw(partial(_compared_curves, records), alt="curves of the runs"), *missing]


def _unique(subjects: Sequence[Subject], number: int) -> str:
    """The run's name; its path where two are named alike."""
    names = [one.run.name for one in subjects]
    return names[number] if names.count(names[number]) == 1 else str(subjects[number].run.path)


def _curves(records: Sequence[Mapping[str, float]], name: str, path: Path) -> None:
    curves(records, path=path, title=name)


def _compared_curves(records: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    caption = "dotted: the loss of chance, and aligned"
    compared_curves(records, path=path, title=f"{len(records)} runs", caption=caption)


def _time_blocks(subject: Subject) -> list[Block]:
    manifest = subject.manifest
    rates = [record["views_per_second"] for record in subject.records if "views_per_second" in record]
    facts = {
        "trained for": f"{manifest.seconds / 60:.1f} minutes",
        "started": _day(manifest.started),
        "ended": "-" if manifest.ended is None else _day(manifest.ended),
        "views a second, median": f"{median(rates):,.0f}" if rates else "-",
        "device": manifest.device,
        "threads": str(manifest.threads),
        "number format": manifest.precision,
        **{name: version for name, version in manifest.versions.items() if name != "clr"},
    }
    return [Table(head=(), rows=tuple((key, value) for key, value in facts.items() if value != "-"), wordy=True)]

"""The report of one run or several, section by section. `clr report` reaches this module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress, Say
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.metrics import read_metrics
from contrastive_cli.services.report.data_sheet import data_blocks
from contrastive_cli.services.report.embedded import (
    certainty_blocks,
    embed_test_images,
    map_blocks,
    retrieval_blocks,
)
from contrastive_cli.services.report.facts import (
    Subject,
    day_and_time,
    difference_blocks,
    run_blocks,
    time_blocks,
    training_blocks,
    unique_name,
)
from contrastive_cli.services.report.heads import has_own_images, missing_pairs
from contrastive_cli.services.report.pairs import decisive, in_words, pair_blocks, read_pair_rows
from contrastive_cli.services.report.probe import (
    chosen_predictions,
    class_blocks,
    compared_probe_blocks,
    fraction_blocks,
    probe_blocks,
    read_probe,
    verdict,
)
from contrastive_cli.viz.report_page import (
    Block,
    Column,
    Missing,
    Report,
    Section,
    Sentence,
    write_report,
)

MOST_RUNS: Final = 8
Blocks = Callable[["Subject"], list[Block]]


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
                pairs=read_pair_rows(run),
                embedded=embedded,
            )
        )
    report = Report(
        title=f"Report of {runs[0].name}" if len(runs) == 1 else f"Report of {len(runs)} runs",
        subtitle=_subtitle(subjects),
        verdicts=tuple((subject.run.name, _verdict(subject)) for subject in subjects),
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
        say(f"the section: {title}")
        said: dict[tuple[Block, ...], list[str]] = {}  # what several runs say alike is said once
        for one in subjects:
            said.setdefault(tuple(blocks(one)), []).append(one.run.name)
        names = ["" if len(subjects) == 1 else ", ".join(names) for names in said.values()]
        columns = tuple(Column(name=name, blocks=own) for name, own in zip(names, said, strict=True))
        return Section(anchor=anchor, title=title, explained=explained, columns=columns)

    def shared(anchor: str, title: str, explained: str, blocks: Sequence[Block]) -> Section:
        column = Column(name="", blocks=tuple(blocks))
        return Section(anchor=anchor, title=title, explained=explained, columns=(column,))

    found = []
    if len(subjects) > 1:
        found.append(shared("differences", "What differs", "", difference_blocks([one.run for one in subjects])))
    found += [
        section("run", "What was run, and how to repeat it", "", lambda one: run_blocks(one, alone=len(subjects) == 1)),
        section("data", "The images", "", lambda one: data_blocks(one.run, data_dir=data_dir)),
    ]
    if curves := training_blocks(subjects):
        found.append(shared("training", "The training", _ABOUT_TRAINING, curves))
    found += [
        shared("probe", "What the features are worth", _ABOUT_PROBE, _probe_blocks(subjects)),
        section(
            "labels", "Accuracy over labels", "", lambda one: fraction_blocks(one.run, one.probe, judged=one.judged)
        ),
        section(
            "classes",
            "Class by class",
            "",
            lambda one: class_blocks(one.run, chosen_predictions(one.run), judged=one.judged),
        ),
        section(
            "map", "The map", _ABOUT_MAP, lambda one: map_blocks(one.run, one.embedded, seed=seed, progress=progress)
        ),
    ]
    if not any(has_own_images(one.run) for one in subjects):
        return found
    return [
        *found,
        section(
            "neighbors", "Nearest neighbors", _ABOUT_NEIGHBORS, lambda one: retrieval_blocks(one.embedded, seed=seed)
        ),
        section(
            "certainty",
            "The surest and the least sure images",
            "",
            lambda one: certainty_blocks(one.run, one.embedded, chosen_predictions(one.run), data_dir=data_dir),
        ),
        section("time", "Time and hardware", "", time_blocks),
    ]


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
    "Test images with the nearest other ones, in the space that the run chose. Green frames are of the same class, "
    "dashed orange ones of another."
)


def _subtitle(subjects: Sequence[Subject]) -> str:
    manifest = subjects[0].manifest
    if len(subjects) > 1:
        names = sorted({one.manifest.dataset.name for one in subjects})
        return f"{', '.join(one.run.name for one in subjects)}, on {', '.join(names)}"
    if manifest.status == "imported":
        return f"imported, {manifest.encoder}, {day_and_time(manifest.started)}"
    state = "" if manifest.status == "finished" else f", {manifest.status} at step {manifest.step}"
    return f"{manifest.method}, {manifest.encoder}, on {manifest.dataset.name}, {day_and_time(manifest.started)}{state}"


def _probe_blocks(subjects: Sequence[Subject]) -> list[Block]:
    """The table of one run; of several, judged on the same test images, one table, and what is missing."""
    known = {unique_name(subjects, number): one.probe for number, one in enumerate(subjects) if one.probe is not None}
    if len(known) < 2 or len({(probe.dataset, probe.split, probe.test_images) for probe in known.values()}) > 1:
        return [block for one in subjects for block in _named_probe_blocks(one, alone=len(subjects) == 1)]
    parts = [probe_blocks(one.run, one.probe) for one in subjects]
    first = next(block for blocks in parts for block in blocks if isinstance(block, Sentence))
    missing = [block for blocks in parts for block in blocks if isinstance(block, Missing)]
    return [first, *compared_probe_blocks(known), *missing]


def _named_probe_blocks(subject: Subject, *, alone: bool) -> list[Block]:
    """A head where one was measured or can be; pairs where they were verified, or where a head cannot be judged."""
    name: list[Block] = [] if alone else [Sentence(text=f"{subject.run.name}:")]
    head = (
        []
        if subject.probe is None and subject.pairs
        else probe_blocks(subject.run, subject.probe, judged=subject.judged)
    )
    pairs = [] if subject.judged or subject.pairs or subject.probe else [missing_pairs(subject.run)]
    return [*name, *head, *pairs, *pair_blocks(subject.pairs)]


def _verdict(subject: Subject) -> str:
    """By labels where a head was measured, else by pairs."""
    if subject.probe is None and subject.pairs:
        return " ".join(in_words(row) for row in decisive(subject.run, subject.pairs))
    if subject.probe is None and not subject.judged:
        return "The classes of the test images were not trained on, and no pairs of them were verified yet."
    return verdict(subject.probe)

"""What was measured with labels: the table of heads, whether the pretraining helped, which class is taken for which."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from contrastive_cli.core.manifest import newest_checkpoint
from contrastive_cli.core.percent import rounded_percent
from contrastive_cli.core.runs import Run
from contrastive_cli.services.evaluation.predictions import Predictions, read_predictions
from contrastive_cli.services.report.heads import FRACTIONS, missing_head
from contrastive_cli.viz.confusion import confusion_figure
from contrastive_cli.viz.curves import accuracy_over_labels
from contrastive_cli.viz.report_page import Block, Missing, Sentence, Table, draw

MAX_BYTES: Final = 50_000_000
BASELINES: Final = ("random", "pixels", "supervised")
NAMES: Final = {
    "pretrained": "pretrained features",
    "pretrained whitened": "pretrained features, whitened",
    "random": "an untrained encoder",
    "random whitened": "an untrained encoder, whitened",
    "pixels": "raw pixels",
    "supervised": "the same encoder trained from scratch",
}
HEAD: Final = "linear"
MOST_CLASSES: Final = 200  # rows of the table by class


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRow:
    """A row of what `clr linear-eval` wrote."""

    features: str
    head: str
    labels: int
    share: float
    accuracy: float
    interval: tuple[float, float]
    balanced: float | None
    largest_class: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """The results of one evaluation; `current` if it was of the run's newest checkpoint."""

    dataset: str
    split: str
    test_images: int
    current: bool
    rows: tuple[ProbeRow, ...]


def read_probe(run: Run) -> Probe | None:
    """The evaluation on the run's own dataset, else on another one; None where there is none that can be read."""
    manifest = run.manifest()
    files = sorted((run.path / "eval").glob("linear-*.json"))
    own = [file for file in files if file.stem.startswith(f"linear-{manifest.dataset.name}")]
    newest = newest_checkpoint(manifest.artifacts)
    for file in [*own, *(file for file in files if file not in own)]:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
            if file.stat().st_size <= MAX_BYTES:
                return _checked(json.loads(file.read_bytes()), newest=newest)
    return None


def _checked(found: Mapping[str, Any], *, newest: Sequence[str]) -> Probe:
    rows = []
    for row in found["rows"]:
        low, high = map(float, row["ci95"])
        read = ProbeRow(
            features=str(row["features"]),
            head=str(row["head"]),
            labels=int(row["labels"]),
            share=float(row.get("label_share", row["label_fraction"])),
            accuracy=float(row["accuracy"]),
            interval=(low, high),
            balanced=None if row.get("balanced_accuracy") is None else float(row["balanced_accuracy"]),
            largest_class=None if row.get("largest_class") is None else float(row["largest_class"]),
        )
        if not all(0 <= number <= 1 for number in (low, read.accuracy, high)) or not 0 < read.share <= 1:
            raise ValueError("not accuracies")
        rows.append(read)
    if not rows:
        raise ValueError("no rows")
    return Probe(
        dataset=str(found["dataset"]),
        split=str(found.get("test_split", "test")),
        test_images=int(found["test_images"]),
        current=found["checkpoint"] in newest,
        rows=tuple(sorted(rows, key=lambda row: (row.share, row.head, row.features != "pretrained"))),
    )


def verdict(probe: Probe | None) -> str:
    """Whether the pretraining helped, by how much, at how many labels: against the best baseline of each number."""
    if probe is None:
        return "Whether the pretraining helped has not been measured yet."
    steps = _comparisons(probe)
    if not steps:
        return "Whether the pretraining helped cannot be said: it was measured without a baseline."
    gains = [gain_interval(own, other) for own, other in steps]
    better, worse = sum(low > 0 for low, _ in gains), sum(high < 0 for _, high in gains)
    many = len(steps) > 1
    if better == len(steps):
        begin = "The pretraining helped at every number of labels" if many else "The pretraining helped"
    elif better and worse:
        begin = f"The pretraining helped at {better} and hurt at {worse} of {len(steps)} numbers of labels"
    elif better:
        begin = f"The pretraining helped, beyond doubt at {better} of {len(steps)} numbers of labels"
    elif worse:
        begin = "The pretraining did not help" + (
            f", and hurt at {worse} of {len(steps)} numbers of labels" if many else ""
        )
    else:
        begin = "Whether the pretraining helped cannot be told from so few test images"
    parts = [_in_words(own, other, gain) for (own, other), gain in zip(steps, gains, strict=True)]
    return f"{begin}: {'; '.join(parts)}. In brackets the 95 % interval of the difference."


def gain_interval(own: ProbeRow, other: ProbeRow) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies from their own intervals, in [-1, 1].

    Method 10 of Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I. It takes the two
    for independent. Here both were judged on the same images, so that the true interval is rather shorter.
    """
    gain = own.accuracy - other.accuracy
    below = math.hypot(own.accuracy - own.interval[0], other.interval[1] - other.accuracy)
    above = math.hypot(own.interval[1] - own.accuracy, other.accuracy - other.interval[0])
    return gain - below, gain + above


def _comparisons(probe: Probe) -> list[tuple[ProbeRow, ProbeRow]]:
    """By rising labels: the linear head, or the one that was fitted, on pretrained features, and the best baseline."""
    pretrained = [row for row in probe.rows if row.features == "pretrained"]
    heads = [row.head for row in pretrained]
    head = HEAD if HEAD in heads else next(iter(heads), HEAD)
    found = []
    for own in pretrained:
        if own.head == head:
            others = [
                row
                for row in probe.rows
                if row.features in BASELINES and row.head in (head, row.features) and row.labels == own.labels
            ]
            if others:
                found.append((own, max(others, key=lambda row: row.accuracy)))
    return found


def _in_words(own: ProbeRow, other: ProbeRow, interval: tuple[float, float]) -> str:
    points = 100 * (own.accuracy - other.accuracy)
    low, high = (f"{100 * end:+.1f}" for end in interval)
    way = "more" if points >= 0 else "less"
    by = "" if own.head == HEAD else f" by the head {own.head}"
    return (
        f"with {own.labels:,} labels ({rounded_percent(own.share)}) {100 * own.accuracy:.1f} % are right{by}, "
        f"{abs(points):.1f} points {way} ({low} to {high}) than the {100 * other.accuracy:.1f} % of "
        f"{NAMES[other.features]}"
    )


def probe_blocks(run: Run, probe: Probe | None, *, judged: bool = True) -> list[Block]:
    """The table with its baselines and intervals; or how it comes to be, if a head can be `judged` at all."""
    if probe is None:
        what = "The features of this run were not measured with labels yet."
        return [missing_head(run, what, *FRACTIONS, judged=judged)]
    rows = tuple(
        (
            NAMES.get(row.features, row.features),
            row.head,
            f"{row.labels:,} ({rounded_percent(row.share)})",
            f"{100 * row.accuracy:.1f} %",
            f"{100 * row.interval[0]:.1f} - {100 * row.interval[1]:.1f}",
            "-" if row.balanced is None else f"{100 * row.balanced:.1f} %",
        )
        for row in probe.rows
    )
    head = ("features", "head", "labels", "accuracy", "95 % interval", "mean over classes")
    largest = {row.largest_class for row in probe.rows if row.largest_class is not None}
    text = f"{probe.test_images:,} {probe.split} images of {probe.dataset}."
    if largest:
        text += f" Always naming the largest class would be right for {100 * max(largest):.1f} %."
    blocks: list[Block] = [Sentence(text=text), Table(head=head, rows=rows)]
    if not probe.current:
        blocks.append(missing_head(run, "This was measured on an earlier checkpoint of the run.", *FRACTIONS))
    if not _comparisons(probe):
        baseline = ("--baseline", "random,pixels")
        blocks.append(missing_head(run, "No baseline was measured beside it.", *FRACTIONS, *baseline))
    return blocks


def compared_probe_blocks(probes: Mapping[str, Probe]) -> list[Block]:
    """The accuracies of several runs in one table, a column a run, with their 95 % intervals."""
    keys = dict.fromkeys(
        (row.share, row.head, row.features, row.labels) for probe in probes.values() for row in probe.rows
    )
    rows = []
    for share, head, features, labels in sorted(keys, key=lambda key: (key[0], key[1], key[2] != "pretrained", key[2])):
        cells = []
        for probe in probes.values():
            found = [one for one in probe.rows if (one.share, one.head, one.features) == (share, head, features)]
            cells.append(_with_interval(found[0]) if found else "-")
        name = NAMES.get(features, features)
        rows.append((name, head, f"{labels:,} ({rounded_percent(share)})", *cells))
    return [Table(head=("features", "head", "labels", *probes), rows=tuple(rows))]


def _with_interval(row: ProbeRow) -> str:
    low, high = (f"{100 * end:.1f}" for end in row.interval)
    return f"{100 * row.accuracy:.1f} % ({low} - {high})"


def fraction_blocks(run: Run, probe: Probe | None, *, judged: bool = True) -> list[Block]:
    """The figure of accuracy over the part of the labels."""
    if probe is None or len({row.share for row in probe.rows}) < 2:
        what = "Accuracy was not measured with several numbers of labels."
        return [missing_head(run, what, *FRACTIONS, judged=judged)]
    rows = [
        {"features": row.features, "head": row.head, "label_share": row.share, "accuracy": row.accuracy,
         "ci95": row.interval}
        for row in probe.rows
    ]  # fmt: skip
    title = f"accuracy over labels, {probe.dataset}"
    caption = f"{probe.test_images} test images, 95 % intervals"
    figure = partial(_accuracy_figure, rows, title, caption)
    return [draw(figure, alt=title)]


def _accuracy_figure(rows: Sequence[Mapping[str, Any]], title: str, caption: str, path: Any) -> None:
    accuracy_over_labels(rows, path=path, title=title, caption=caption)


def chosen_predictions(run: Run) -> Predictions | None:
    """Those of the newest checkpoint, on the run's own dataset first."""
    newest = newest_checkpoint(run.manifest().artifacts)
    return next((one for one in read_predictions(run) if one.checkpoint in newest), None)


def class_blocks(run: Run, predictions: Predictions | None, *, judged: bool = True) -> list[Block]:
    """The confusion matrix, and a row for every class."""
    if predictions is None:
        what = "Which classes are mistaken for which was not kept."
        manifest = run.manifest()
        if manifest.method == "supervised" and manifest.parent is not None:  # its end judges its own classifier
            return [Missing(what=what, command=shlex.join(["clr", "pretrain", "--resume", str(run.path)]))]
        return [missing_head(run, what, judged=judged)]
    matrix = predictions.confusion()
    title = f"confusion of {predictions.dataset} {predictions.split}"
    caption = f"{predictions.head} head, {predictions.labels:,} labels"
    figure = partial(_confusion_figure, matrix, predictions.classes, title, caption)
    rows = sorted((_class_row(predictions, matrix, label) for label in range(len(matrix))), key=lambda pair: pair[0])
    shown = tuple(row for _, row in rows if row)[:MOST_CLASSES]
    head = ("class, the weakest first", "images", "recognized", "of what is called so", "most often taken for")
    accuracy = 100 * predictions.correct.mean()
    text = f"{accuracy:.1f} % of {len(predictions.targets):,} images are right."
    return [Sentence(text=text), draw(figure, alt=title), Table(head=head, rows=shown)]


def _confusion_figure(matrix: Any, classes: Sequence[str], title: str, caption: str, path: Any) -> None:
    confusion_figure(matrix, classes=classes, path=path, title=title, caption=caption)


def _class_row(predictions: Predictions, matrix: Any, label: int) -> tuple[float, tuple[str, ...]]:
    """Its recall, and its cells; none for a class without images that nothing is taken for."""
    images, called, right = int(matrix[label].sum()), int(matrix[:, label].sum()), int(matrix[label, label])
    if images + called == 0:
        return 2.0, ()
    others = matrix[label].copy()
    others[label] = 0
    most = int(np.argmax(others))
    taken = f"{predictions.class_name(most)} ({others[most]})" if others[most] else "-"
    recall = right / images if images else 1.5
    cells = (
        predictions.class_name(label),
        f"{images}",
        f"{100 * right / images:.1f} %" if images else "-",
        f"{100 * right / called:.1f} %" if called else "-",
        taken,
    )
    return recall, cells

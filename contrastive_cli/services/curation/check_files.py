"""A check as tables, as plain values, and as a page with the pictures."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from contrastive_cli.core.percent import rounded_percent
from contrastive_cli.core.wording import counted
from contrastive_cli.embeddings.result_tables import write_table
from contrastive_cli.services.curation.advice import Advice
from contrastive_cli.services.curation.balance import class_counts
from contrastive_cli.services.curation.check import DataCheck
from contrastive_cli.services.curation.findings import CHECKS, Check, Finding, Kind, count_of, of_kind
from contrastive_cli.services.curation.pictures import thumbnails_of
from contrastive_cli.viz.embedding_map import Thumbnails
from contrastive_cli.viz.gallery import Card, Gallery, Row, Section, Table, write_gallery

COLUMNS: Final = ("kind", "group", "path", "split", "class", "value", "note")
THUMBNAIL: Final = 64
MOST_PICTURES: Final = 12_000  # on a page; the lists are whole all the same


def write_check_table(check: DataCheck, path: Path) -> None:
    """Write a line for every picture of every list, as .csv or .jsonl.

    Raises:
        RunError: If the file cannot be written.
    """
    write_table(path, map(finding_values, check.findings), columns=COLUMNS, paths=("path",))


def finding_values(finding: Finding) -> dict[str, Any]:
    """A finding as plain values."""
    return {
        "kind": finding.kind,
        "group": finding.group,
        "path": finding.path,
        "split": finding.split,
        "class": finding.label,
        "value": finding.value,
        "note": finding.note,
    }


def check_values(check: DataCheck, advice: Advice) -> dict[str, Any]:
    """Everything as plain values."""
    pictures, measures = check.pictures, check.measures
    mean, std = measures.channel_statistics()
    shorter = measures.shorter
    return {
        "dataset": pictures.dataset.name,
        "data_dir": None if pictures.dataset.data_dir is None else str(pictures.dataset.data_dir),
        "pictures": len(pictures.names),
        "readable": len(measures.rows),
        "splits": dict(Counter(pictures.split)),
        "test_is_drawn": pictures.drawn,
        "classes": class_counts(pictures),
        "sizes": {
            "shorter_side": {name: float(np.percentile(shorter, at)) for name, at in _QUARTILES.items()},
            "aspect_ratio": {
                name: float(np.percentile(measures.size[:, 0] / measures.size[:, 1], at))
                for name, at in _QUARTILES.items()
            },
            "most_frequent": [
                {"width": width, "height": height, "pictures": count}
                for (width, height), count in Counter(map(tuple, measures.size.tolist())).most_common(5)
            ],
        },
        "gray": int(measures.is_gray.sum()),
        "channels": {"mean": mean, "std": std},
        "compared_by": check.compared_by,
        "near_threshold": check.threshold,
        "vote": None if check.votes is None else {"accuracy": check.votes.accuracy, "judged": check.votes.judged},
        "counts": {kind: count_of(check.findings, kind) for kind in CHECKS},
        "findings": {kind: [finding_values(finding) for finding in of_kind(check.findings, kind)] for kind in CHECKS},
        "suggestion": {
            "command": advice.command,
            "arguments": list(advice.words),
            "size": advice.size,
            "encoder": advice.encoder,
            "stem": advice.stem,
            "crop_area": advice.crop_area,
            "batch_size": advice.batch_size,
            "preset": advice.preset,
            "reasons": list(advice.reasons),
        },
    }


_QUARTILES: Final = {"least": 0, "quarter": 25, "median": 50, "three_quarters": 75, "most": 100}


def summary_lines(check: DataCheck) -> list[str]:
    """What the pictures are, a line each."""
    pictures, measures = check.pictures, check.measures
    splits = ", ".join(f"{split} {count:,}" for split, count in Counter(pictures.split).items())
    classes = f", {counted(len(pictures.classes), 'class', 'classes')}" if pictures.classes else ", without labels"
    lines = [f"{len(pictures.names):,} pictures ({splits}){classes}"]
    least, median, most = (int(np.percentile(measures.shorter, at)) for at in (0, 50, 100))
    width, height = Counter(map(tuple, measures.size.tolist())).most_common(1)[0][0]
    sides = f"all {width} x {height}" if _is_one_size(check) else f"shorter sides {least} to {most} px, median {median}"
    gray = int(measures.is_gray.sum())
    colors = "gray" if gray == len(measures.rows) else f"color ({gray:,} gray)" if gray else "color"
    mean, std = measures.channel_statistics()
    lines.append(f"{sides}; {colors}")
    lines.append(f"mean of the channels {_numbers(mean)}, standard deviation {_numbers(std)}")
    lines.append(f"compared by {check.compared_by}; near from a similarity of {check.threshold:.4f}")
    if check.votes is not None:
        lines.append(vote_line(check))
    return lines


def vote_line(check: DataCheck) -> str:
    """How far the neighbors can be believed."""
    assert check.votes is not None, "there are votes to describe"
    right = f"the neighbors' vote gives {rounded_percent(check.votes.accuracy)} of the pictures their own label"
    if check.votes.judged:
        return right
    better = "" if check.is_trained else "; --run RUN compares by a trained encoder"
    return f"{right}, too few to doubt a label{better}"


def _is_one_size(check: DataCheck) -> bool:
    return bool((check.measures.size == check.measures.size[0]).all())


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def write_check_page(check: DataCheck, advice: Advice, path: Path) -> None:
    """Write every list with its pictures as one page in one file.

    Raises:
        RunError: If the file cannot be written.
    """
    wanted = list(dict.fromkeys(finding.picture for finding in check.findings if finding.picture >= 0))[:MOST_PICTURES]
    pixels, present = thumbnails_of(check.pictures, np.array(wanted, np.int64), size=THUMBNAIL)
    tiles = {picture: number for number, picture in enumerate(wanted) if present[number]}
    sections = [_section(check, kind, about, tiles) for kind, about in CHECKS.items()]
    dataset = check.pictures.dataset
    write_gallery(
        Gallery(
            title=f"Check of {dataset.data_dir or dataset.name}",
            lines=tuple(summary_lines(check)),
            tables=(*_class_table(check), *_size_table(check)),
            sections=tuple(section for section in sections if section.rows),
            clean=tuple(CHECKS[kind].title for kind in CHECKS if not count_of(check.findings, kind)),
            command=advice.command,
            reasons=advice.reasons,
            thumbnails=Thumbnails(pixels=pixels, present=present),
        ),
        path,
    )


def _section(check: DataCheck, kind: Kind, about: Check, tiles: dict[int, int]) -> Section:
    findings = of_kind(check.findings, kind)
    in_groups = len(findings) > count_of(findings, kind)
    rows: list[Row] = []
    for number, members in itertools.groupby(findings, key=lambda finding: finding.group):
        group = list(members)
        first = group[0]
        heading = first.note or (f"{first.value:.4f}" if first.value is not None else "")
        cards = tuple(
            Card(
                tile=tiles.get(finding.picture, -1),
                name=finding.path or finding.label or "without a label",
                lines=_card_lines(finding, in_groups=in_groups),
            )
            for finding in group
        )
        rows.append(Row(number=number, heading=heading if in_groups else "", cards=cards))
    return Section(
        kind=kind,
        title=about.title,
        count=counted(count_of(findings, kind), about.noun, "classes" if about.noun == "class" else None),
        text=about.meaning + (f" Value: {about.value}." if about.value else ""),
        is_fault=about.is_fault,
        in_groups=in_groups,
        rows=tuple(rows),
    )


def _card_lines(finding: Finding, *, in_groups: bool) -> tuple[str, ...]:
    value = "" if finding.value is None else f"{finding.value:.4g}"
    place = ", ".join(word for word in (finding.split, finding.label if finding.path else "") if word)
    return tuple(line for line in (place, value, "" if in_groups else finding.note) if line)


def _class_table(check: DataCheck) -> tuple[Table, ...]:
    counts = class_counts(check.pictures)
    if not check.pictures.classes:
        return ()
    names = sorted({name for split in counts.values() for name in split}, key=lambda name: (name == "", name))
    rows = tuple((name or "without a label", *(str(counts[split].get(name, 0)) for split in counts)) for name in names)
    return (Table(title="Classes", columns=("class", *counts), rows=rows, bars=True),)


def _size_table(check: DataCheck) -> tuple[Table, ...]:
    common = Counter(map(tuple, check.measures.size.tolist())).most_common(12)
    rows = tuple((f"{width} x {height}", str(count)) for (width, height), count in common)
    more = len(set(map(tuple, check.measures.size.tolist()))) - len(rows)
    title = "Sizes" + (f", the most frequent; {more:,} others" if more > 0 else "")
    return (Table(title=title, columns=("width x height", "pictures"), rows=rows, bars=True),)

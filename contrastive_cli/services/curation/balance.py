"""How many pictures each class has in each split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from contrastive_cli.services.curation.findings import Finding
from contrastive_cli.services.curation.pictures import Pictures

UNEVEN: Final = 10.0  # times fewer pictures than the largest class
FEW: Final = 5


def class_counts(pictures: Pictures) -> dict[str, dict[str, int]]:
    """Split -> class -> pictures; those without a label under the empty name."""
    splits = np.array(pictures.split)
    counts: dict[str, dict[str, int]] = {}
    for split in dict.fromkeys(pictures.split):
        labels = pictures.labels[splits == split]
        counts[split] = {name: int((labels == number).sum()) for number, name in enumerate(pictures.classes)}
        if (labels < 0).any():
            counts[split][""] = int((labels < 0).sum())
    return counts


def balance_findings(pictures: Pictures) -> Iterator[Finding]:
    """Classes with few pictures, or with none in a split that others are in; pictures without a label."""
    counts = class_counts(pictures)
    labeled = [split for split in counts if any(counts[split].get(name, 0) for name in pictures.classes)]
    totals = {name: sum(counts[split][name] for split in labeled) for name in pictures.classes}
    largest = max(totals.values(), default=0)
    rows: list[tuple[int, str, str, str]] = []
    for name, total in totals.items():
        missing = [split for split in labeled if counts[split][name] == 0]
        if missing:
            rows.append((total, name, missing[0], f"none in {', '.join(missing)}"))
        elif total * UNEVEN <= largest or total < FEW:
            rows.append((total, name, "", f"the largest class has {largest}"))
    for split in labeled:
        if unlabeled := counts[split].get("", 0):
            rows.append((unlabeled, "", split, f"without a label in {split}"))
    for group, (total, name, split, text) in enumerate(sorted(rows), 1):
        yield Finding(
            kind="balance", group=group, picture=-1, path="", split=split, label=name, value=float(total), note=text
        )

"""What `clr similarity --pairs` measured on a run: are two pictures of the same class?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contrastive_cli.core.manifest import newest_checkpoint
from contrastive_cli.core.runs import Run
from contrastive_cli.services.inference.comparison import Comparison
from contrastive_cli.services.report.probe import MAX_BYTES
from contrastive_cli.viz.report_page import Block, Sentence, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRow:
    """The verdict on one list of pairs by one kind of cosine."""

    pairs: str
    how: Comparison
    cosine: str
    count: int
    auc: float
    equal_error: float
    accuracy: float


def read_pair_rows(run: Run) -> list[PairRow]:
    """Those of the newest checkpoint, the clearest first; what cannot be read is passed over."""
    newest = newest_checkpoint(run.manifest().artifacts)
    rows = []
    for file in sorted((run.path / "eval").glob("verification-*.json")):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
            if file.stat().st_size <= MAX_BYTES:
                found = json.loads(file.read_bytes())
                if found["checkpoint"] in newest:
                    rows.append(_checked(found, stem=file.stem))
    return sorted(rows, key=lambda row: (row.pairs, -row.auc, row.how.name))


def _checked(found: Mapping[str, Any], *, stem: str) -> PairRow:
    how = Comparison(layer=found["layer"], average=found["average"], space=found["space"])
    row = PairRow(
        pairs=stem.removeprefix("verification-").removesuffix(f"-{how.name}"),
        how=how,
        cosine=str(how),
        count=int(found["pairs"]),
        auc=float(found["auc"]),
        equal_error=float(found["eer"]),
        accuracy=float(found["accuracy"]),
    )
    if not all(0 <= number <= 1 for number in (row.auc, row.equal_error, row.accuracy)):
        raise ValueError("not parts of pairs")
    return row


def decisive(run: Run, rows: Sequence[PairRow]) -> list[PairRow]:
    """One row of each list of pairs: that of the cosine which the run chose, else the least clear one.

    The clearest of several would be chosen by the pairs that it is judged on.
    """
    manifest = run.manifest()
    chosen = (manifest.similarity_layer, manifest.similarity_average)
    found = []
    for name in dict.fromkeys(row.pairs for row in rows):
        own = [row for row in rows if row.pairs == name]
        found.append(next((row for row in own if (row.how.layer, row.how.average) == chosen), own[-1]))
    return found


def in_words(row: PairRow) -> str:
    """One sentence on one list of pairs."""
    return (
        f"Of {row.count:,} pairs ({row.pairs}) {100 * row.accuracy:.1f} % are told apart: the area under the curve is "
        f"{row.auc:.3f}, the equal error rate {100 * row.equal_error:.1f} % ({row.cosine})."
    )


def pair_blocks(rows: Sequence[PairRow]) -> list[Block]:
    """The table; nothing where no pairs were verified."""
    if not rows:
        return []
    head = ("pairs", "cosine of", "pairs in all", "area under the curve", "equal error rate", "accuracy")
    cells = tuple(
        (row.pairs, row.cosine, f"{row.count:,}", f"{row.auc:.3f}", f"{100 * row.equal_error:.1f} %",
         f"{100 * row.accuracy:.1f} %")
        for row in rows
    )  # fmt: skip
    return [Sentence(text="Pairs of pictures: are they of the same class?"), Table(head=head, rows=cells)]

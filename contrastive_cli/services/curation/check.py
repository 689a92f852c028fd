"""The whole check: every picture looked at once, compared with all others, and judged. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from contrastive_cli.core.notes import note
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.probes.out_of_fold_votes import Votes
from contrastive_cli.embeddings.search.pairs_above import MOST_PAIRS, pairs_above
from contrastive_cli.services.curation.balance import balance_findings
from contrastive_cli.services.curation.doubts import (
    find_neighborhood,
    label_findings,
    outlier_findings,
    vote_on_labels,
)
from contrastive_cli.services.curation.duplicates import (
    Duplicates,
    duplicate_findings,
    find_equal,
    group_near,
    one_of_each,
)
from contrastive_cli.services.curation.findings import CHECKS, Finding
from contrastive_cli.services.curation.measures import Measures, measure_pictures
from contrastive_cli.services.curation.pictures import Pictures
from contrastive_cli.services.curation.quality import quality_findings
from contrastive_cli.services.curation.vectors import encoder_vectors, thumbnail_vectors
from contrastive_cli.services.inference.model import Model

Counting = Callable[[str], AbstractContextManager[CountProgress]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DataCheck:
    """What was found.

    Attributes:
        pictures: What was looked at.
        measures: What was seen of each that can be read.
        findings: All of them, list by list in the order of `CHECKS`.
        compared_by: By what vectors pictures were compared, in words.
        threshold: Least similarity of near pictures.
        votes: What the neighbors say of labels; None where there are no two classes.
    """

    pictures: Pictures
    measures: Measures
    findings: tuple[Finding, ...]
    compared_by: str
    threshold: float
    votes: Votes | None


def check_pictures(pictures: Pictures, *, model: Model | None, near: float | None, counting: Counting) -> DataCheck:
    """Look at pictures, compare them and judge them.

    Args:
        pictures: All splits.
        model: Whose encoder compares them; None compares small gray thumbnails.
        near: Least similarity of near pictures, in (0, 1]; None takes what suits the pictures.
        counting: Opens a progress bar with a description.

    Raises:
        DataError: If no picture can be read.
    """
    with counting("looking at pictures") as progress:
        measures = measure_pictures(pictures, progress=progress)
    equal = find_equal(pictures, measures)
    unique = one_of_each(measures, equal)
    firsts = measures.rows[unique]
    if model is None:
        vectors = thumbnail_vectors(measures.gray[unique])
    else:
        with counting("embedding pictures") as progress:
            vectors = encoder_vectors(model, pictures, firsts, progress=progress)
    with counting("asking neighbors") as progress:
        neighborhood = find_neighborhood(vectors, progress=progress)
    with counting("comparing pictures") as progress:
        wanted = near or neighborhood.usual_threshold()
        pairs = pairs_above(vectors, wanted, progress=progress)
    if pairs.threshold > wanted:
        note(f"more than {MOST_PAIRS:,} pairs are as similar as {wanted:.4f}, so they count from {pairs.threshold:.6f}")
    duplicates = Duplicates(equal=equal, firsts=firsts, pairs=pairs, groups=group_near(pairs))
    folds = duplicates.folds()
    votes = vote_on_labels(pictures, firsts, neighborhood, folds)
    findings = [
        *_unreadable(pictures, measures),
        *duplicate_findings(pictures, duplicates),
        *([] if votes is None else label_findings(pictures, firsts, votes)),
        *outlier_findings(pictures, firsts, neighborhood, folds),
        *quality_findings(pictures, measures),
        *balance_findings(pictures),
    ]
    order = list(CHECKS)
    return DataCheck(
        pictures=pictures,
        measures=measures,
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.kind))),
        compared_by="gray thumbnails of 16 x 16" if model is None else f"the encoder of {model.run.name}",
        threshold=pairs.threshold,
        votes=votes,
    )


def _unreadable(pictures: Pictures, measures: Measures) -> Iterator[Finding]:
    number = 0
    for number, (row, bad) in enumerate(measures.bad, 1):
        yield Finding(
            kind="unreadable", group=number, picture=-1, path=pictures.names[row], split=pictures.split[row],
            label=pictures.class_of(row), value=None, note=bad.reason,
        )  # fmt: skip
    for folder in pictures.unreadable:
        number += 1
        yield Finding(
            kind="unreadable", group=number, picture=-1, path=folder.path, split="", label="", value=None,
            note=folder.reason,
        )  # fmt: skip

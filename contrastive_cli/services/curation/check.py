"""The whole check: every picture looked at once, compared with all others, and judged. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.notes import note
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.probes.out_of_fold_votes import Votes
from contrastive_cli.embeddings.search.pairs_above import MOST_PAIRS, pairs_above
from contrastive_cli.services.curation.balance import balance_findings
from contrastive_cli.services.curation.doubts import (
    Neighborhood,
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
from contrastive_cli.services.inference.spaces import Placement, kept_placement

Counting = Callable[[str], AbstractContextManager[CountProgress]]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DataCheck:
    """What was found.

    Attributes:
        pictures: What was looked at.
        measures: What was seen of each that can be read.
        findings: All of them, list by list in the order of `CHECKS`.
        compared_by: By what vectors pictures were compared, in words.
        is_trained: Whether these are of an encoder.
        threshold: Least similarity of near pictures.
        votes: What the neighbors say of labels; None where there are no two classes.
    """

    pictures: Pictures
    measures: Measures
    findings: tuple[Finding, ...]
    compared_by: str
    is_trained: bool
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
    where = Placement() if model is None else kept_placement(model)
    if model is None:
        vectors = thumbnail_vectors(measures.gray[unique])
    else:
        with counting("embedding pictures") as progress:
            vectors = encoder_vectors(model, pictures, firsts, layer=where.layer, progress=progress)
    # Two pictures are the same by the cosine of their vectors as they are; who is a neighbor, and so may vote, is asked
    # in the space that the run chose for that.
    judging = where.enter(vectors)
    with counting("asking neighbors") as progress:
        neighborhood = find_neighborhood(judging, progress=progress)
    with counting("comparing pictures") as progress:
        wanted = near or _usual_threshold(vectors, judging, neighborhood)
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
        is_trained=model is not None,
        threshold=pairs.threshold,
        votes=votes,
    )


def _usual_threshold(vectors: Vectors, judging: Vectors, neighborhood: Neighborhood) -> float:
    """That of the vectors as they are, whose neighborhood is another one where neighbors are asked in a space."""
    return (neighborhood if judging is vectors else find_neighborhood(vectors)).usual_threshold()


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

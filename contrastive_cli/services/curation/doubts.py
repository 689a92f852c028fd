"""Pictures that their neighbors tell apart: unlike all others, or of another class than all around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.percent import rounded_percent
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.probes.out_of_fold_votes import VOTERS, Votes, out_of_fold_votes
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.services.curation.findings import Finding, finding_of
from contrastive_cli.services.curation.pictures import Pictures

SPARE: Final = 12  # neighbors beyond the voters, in place of duplicates
NEAR: Final = 0.98  # of gray thumbnails: of 60,000 CIFAR-10 pictures 133 pairs, nearly all the same picture
TENTH: Final = 10
TWELFTH: Final = 12
NEAREST: Final = 5  # whose mean similarity says how far a picture is from all others
FEWEST: Final = 20  # pictures, below which nothing is said of outliers
FAR: Final = 6.0  # standard deviations, robustly
ROBUST: Final = 1.4826  # median absolute deviation to standard deviation, of a normal distribution


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Neighborhood:
    """The nearest of each of U pictures, itself left out: indices and cosines, [U, K]."""

    indices: NDArray[np.int64]
    cosines: NDArray[np.float64]

    def usual_threshold(self) -> float:
        """A similarity that says that two pictures are the same here, where pictures may be alike in general.

        Duplicates are at most a twelfth as far apart as a picture usually is from its tenth nearest.
        """
        if self.cosines.shape[1] < TENTH:
            return NEAR
        usual = float(np.median(1 - self.cosines[:, TENTH - 1]))
        return max(NEAR, 1 - usual / TWELFTH)


def find_neighborhood(vectors: NDArray[np.float32], *, progress: CountProgress | None = None) -> Neighborhood:
    """Look up the neighbors of vectors [U, D]; none where U is 1."""
    if len(vectors) < 2:
        return Neighborhood(indices=np.zeros((len(vectors), 0), np.int64), cosines=np.zeros((len(vectors), 0)))
    found = nearest_neighbors(vectors, k=min(VOTERS + SPARE, len(vectors) - 1), progress=progress)
    return Neighborhood(indices=found.indices, cosines=1 - found.distances.astype(np.float64))


def outlier_findings(
    pictures: Pictures, firsts: NDArray[np.int64], near: Neighborhood, folds: NDArray[np.int64]
) -> Iterator[Finding]:
    """Pictures whose nearest others, duplicates of one fold left out, are unusually far, the farthest first."""
    others = folds[near.indices] != folds[:, None]
    others &= np.cumsum(others, axis=1) <= NEAREST
    count = others.sum(axis=1)
    similarity = np.where(others, near.cosines, 0).sum(axis=1) / np.maximum(count, 1)
    if len(similarity) < FEWEST:
        return
    median = float(np.median(similarity))
    spread = ROBUST * float(np.median(np.abs(similarity - median)))
    far = np.flatnonzero((similarity < median - FAR * max(spread, 1e-3)) & (count > 0))
    for group, position in enumerate(far[np.argsort(similarity[far], kind="stable")].tolist(), 1):
        row, value = int(firsts[position]), float(similarity[position])
        yield finding_of(pictures, row, kind="outlier", group=group, value=value)


def vote_on_labels(
    pictures: Pictures, firsts: NDArray[np.int64], near: Neighborhood, folds: NDArray[np.int64]
) -> Votes | None:
    """The votes of all neighbors but duplicates; None with fewer than two classes."""
    labels = pictures.labels[firsts]
    if len(np.unique(labels[labels >= 0])) < 2:
        return None
    return out_of_fold_votes(near.indices, near.cosines, labels, folds, classes=len(pictures.classes))


def label_findings(pictures: Pictures, firsts: NDArray[np.int64], votes: Votes) -> Iterator[Finding]:
    """Pictures whose label the vote contradicts, the most doubtful first."""
    for group, position in enumerate(votes.doubtful.tolist(), 1):
        row, winner = int(firsts[position]), int(votes.winners[position])
        share = float(votes.shares[position, winner])
        yield finding_of(
            pictures,
            row,
            kind="label",
            group=group,
            value=share,
            note=f"{pictures.classes[winner]}? ({rounded_percent(share)} of the vote)",
        )

"""Labels that the neighbors contradict, where the neighbors are worth believing. Numpy only.

Every row is judged by rows outside its own fold, here a group of duplicates. A vote counts against a label only where
such votes are mostly right and the label's own class is mostly recognized, as in confident learning (Northcutt,
Jiang and Chuang 2021, https://arxiv.org/abs/1911.00068), whose thresholds per class these are in spirit.

Letters: N rows, K neighbors, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

TEMPERATURE: Final = 0.07  # of the vote, as in `knn_vote`
VOTERS: Final = 20
SHARES: Final = (0.6, 0.7, 0.8, 0.9, 0.97)  # of a vote, tried from the least
LEAST_ACCURACY: Final = 0.7  # of the vote over all rows, below which no label is doubted
LEAST_AGREEMENT: Final = 0.9  # of votes of that share with the labels
LEAST_RECALL: Final = 0.5  # of a class, below which its rows are not judged
LEAST_VOTES: Final = 5

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Votes:
    """What the neighbors say.

    Attributes:
        shares: [N, C] parts of the vote; zero where nobody voted.
        winners: int64 [N], the class with most; -1 where nobody voted.
        accuracy: How many of the labeled rows are voted into their class.
        doubtful: Rows whose label is contradicted, the most doubtful first.
        judged: Whether the vote is good enough to doubt any label.
    """

    shares: Floats
    winners: Ints
    accuracy: float
    doubtful: Ints
    judged: bool


def out_of_fold_votes(
    indices: Ints, cosines: Floats, labels: Ints, folds: Ints, *, classes: int, voters: int = VOTERS
) -> Votes:
    """Let the nearest rows of other folds vote, each by exp(cosine / 0.07).

    Args:
        indices: [N, K] neighbors of each row, nearest first; more than `voters`, so that some may be left out.
        cosines: [N, K].
        labels: int64 [N] in [-1, C); -1 neither votes nor is judged.
        folds: int64 [N]; rows of one fold do not vote on each other.
        classes: C.
        voters: At most so many vote.
    """
    may = (folds[indices] != folds[:, None]) & (labels[indices] >= 0)
    may &= np.cumsum(may, axis=1) <= voters
    weights = np.where(may, np.exp((cosines - 1) / TEMPERATURE), 0.0)
    shares = np.zeros((len(labels), classes))
    rows = np.broadcast_to(np.arange(len(labels))[:, None], indices.shape)
    np.add.at(shares, (rows[may], labels[indices[may]]), weights[may])
    totals = shares.sum(axis=1)
    shares /= np.where(totals > 0, totals, 1.0)[:, None]
    winners = np.where(totals > 0, shares.argmax(axis=1), -1)
    labeled = labels >= 0
    right = (winners == labels) & labeled
    limits = _limits(shares.max(axis=1, initial=0), winners, right, labeled, classes=classes)
    counts = np.bincount(labels[labeled], minlength=classes)
    recalled = np.bincount(labels[right], minlength=classes) >= LEAST_RECALL * np.maximum(counts, 1)
    known = labeled & (winners >= 0)
    best = shares[np.arange(len(labels)), winners]  # of a winner -1 the last column, which is not used
    accuracy = float(right.sum() / max(1, labeled.sum()))
    believed = accuracy >= LEAST_ACCURACY
    found = np.flatnonzero(known & ~right & (best >= limits[winners]) & recalled[labels] & believed)
    own = shares[found, labels[found]]
    return Votes(
        shares=shares,
        winners=winners,
        accuracy=accuracy,
        doubtful=found[np.argsort(own - best[found], kind="stable")],
        judged=believed and bool((limits < 2).any()),
    )


def _limits(
    best: Floats, winners: Ints, right: NDArray[np.bool_], labeled: NDArray[np.bool_], *, classes: int
) -> Floats:
    """The share [C] from which votes for a class are believed; 2 where they never are."""
    limits = np.full(classes, 2.0)
    for number in range(classes):
        votes = (winners == number) & labeled
        for share in SHARES:
            chosen = votes & (best >= share)
            if right[chosen].sum() >= LEAST_VOTES and right[chosen].mean() >= LEAST_AGREEMENT:
                limits[number] = share
                break
    return limits

"""The processes that share a search: which of the work is whose, and how all of them get what each has found.

Work is dealt by its number, as everywhere in several processes, so that which products are computed, and of which
shapes, does not depend on how many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.embeddings.search.running_best import Indices, Scores

Arrays = tuple[NDArray[Any], ...]
Item = TypeVar("Item")


def _only_own(array: NDArray[Any]) -> list[NDArray[Any]]:
    return [array]


@dataclass(frozen=True, kw_only=True, slots=True)
class Peers:
    """This process among those of a search.

    Attributes:
        rank: Counted from 0.
        size: How many there are.
        exchange: The array of every process by rank, for arrays of one type and shape.
    """

    rank: int = 0
    size: int = 1
    exchange: Callable[[NDArray[Any]], list[NDArray[Any]]] = _only_own

    def dealt(self, items: Sequence[Item]) -> Sequence[Item]:
        """Which of the work this process does."""
        return items[self.rank :: self.size]

    def gathered(self, own: Sequence[Arrays], lengths: Sequence[int], *, like: Arrays) -> Iterator[Arrays]:
        """What all processes have made of their work, in the order of the work, a round of it at a time.

        Args:
            own: For each piece of work of this process arrays whose first dimension is its length.
            lengths: Of every piece of work.
            like: Arrays of the types and shapes of a piece, but for the first dimension; for a process without work.
        """
        if self.size == 1:
            yield from own
            return
        for start in range(0, len(lengths), self.size):
            some = lengths[start : start + self.size]
            mine = own[start // self.size] if self.rank < len(some) else None
            columns = []
            for number, example in enumerate(like):
                padded = np.zeros((max(some), *example.shape[1:]), example.dtype)
                if mine is not None:
                    padded[: len(mine[number])] = mine[number]
                columns.append(self.exchange(padded))
            for rank, length in enumerate(some):
                yield tuple(column[rank][:length] for column in columns)


ALONE = Peers()


def best_of_all(partners: Indices, scores: Scores, *, peers: Peers) -> tuple[Indices, Scores]:
    """The K best partners of each row among those that any process has found, and the least of their scores.

    Args:
        partners: [T, K] of this process; what two processes have both found counts once.
        scores: [T, K].
        peers: The processes, which all call this for the same rows.
    """
    if peers.size == 1:
        return partners, scores.min(1)
    count = partners.shape[1]
    all_partners = np.concatenate(peers.exchange(partners), axis=1)  # [T, P K]
    all_scores = np.concatenate(peers.exchange(scores), axis=1)
    order = np.argsort(all_partners, axis=1, kind="stable")
    all_partners = np.take_along_axis(all_partners, order, 1)
    all_scores = np.take_along_axis(all_scores, order, 1)
    all_scores[:, 1:][all_partners[:, 1:] == all_partners[:, :-1]] = -np.inf
    kept = np.argpartition(all_scores, all_scores.shape[1] - count, axis=1)[:, all_scores.shape[1] - count :]
    best = np.take_along_axis(all_scores, kept, 1)
    return np.take_along_axis(all_partners, kept, 1), best.min(1)

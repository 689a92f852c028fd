"""Equal and nearly equal pictures: in groups, across splits, and with different labels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.files import sha256_of
from contrastive_cli.data.images import BadImage
from contrastive_cli.data.quiet_decoders import quiet_decoders
from contrastive_cli.embeddings.search.linked_groups import complete_link_groups
from contrastive_cli.embeddings.search.pairs_above import NearPairs
from contrastive_cli.services.curation.findings import Finding, Kind, finding_of
from contrastive_cli.services.curation.measures import Measures
from contrastive_cli.services.curation.pictures import Pictures

HELD_OUT: Final = {"val": 1, "test": 2}  # all other splits are trained on


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Duplicates:
    """Which pictures are the same.

    Attributes:
        equal: Groups of equal pictures, by their numbers among all pictures.
        firsts: int64 [U], one picture of each group of equal ones, and every other that could be read.
        pairs: Near pairs, of positions in `firsts`.
        groups: Groups of positions in `firsts` in which every pair is near.
    """

    equal: tuple[tuple[int, ...], ...]
    firsts: NDArray[np.int64]
    pairs: NearPairs
    groups: tuple[tuple[int, ...], ...]

    def folds(self) -> NDArray[np.int64]:
        """A number [U] that near pictures share."""
        fold = np.arange(len(self.firsts))
        for group in self.groups:
            fold[list(group)] = group[0]
        return fold


def find_equal(pictures: Pictures, measures: Measures) -> tuple[tuple[int, ...], ...]:
    """Groups of pictures whose pixels are all the same, by their numbers; files of equal bytes are not decoded."""
    alike: dict[tuple[int, int, bytes], list[int]] = defaultdict(list)
    for row, (width, height), gray in zip(measures.rows.tolist(), measures.size.tolist(), measures.gray, strict=True):
        alike[width, height, gray.tobytes()].append(row)
    found: list[tuple[int, ...]] = []
    with quiet_decoders():
        for members in alike.values():
            if len(members) > 1:
                found += _equal_among(pictures, members)
    return tuple(sorted(found))


def _equal_among(pictures: Pictures, members: Sequence[int]) -> list[tuple[int, ...]]:
    files = pictures.files
    by_bytes = [[row] for row in members]
    if files is not None:
        by_bytes = _grouped(members, lambda row: sha256_of(files[row]))
    groups = {group[0]: group for group in by_bytes}
    if len(groups) == 1:
        return [tuple(members)]
    by_pixels = _grouped(list(groups), lambda row: _pixel_digest(pictures, row))
    joined = [tuple(sorted(row for first in firsts for row in groups[first])) for firsts in by_pixels]
    return [group for group in joined if len(group) > 1]


def _grouped(rows: Sequence[int], digest: Callable[[int], str]) -> list[list[int]]:
    """Rows of one digest together; one that is gone meanwhile is alone."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        try:
            groups[digest(row)].append(row)
        except (OSError, BadImage):
            groups[f"row {row}"].append(row)
    return list(groups.values())


def _pixel_digest(pictures: Pictures, row: int) -> str:
    pixels = np.ascontiguousarray(pictures.pixels(row, size=None))
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def one_of_each(measures: Measures, equal: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Positions [U] in `measures` of the first of each group of equal pictures and of all others."""
    again = {row for group in equal for row in group[1:]}
    return np.flatnonzero([row not in again for row in measures.rows.tolist()])


def group_near(pairs: NearPairs) -> tuple[tuple[int, ...], ...]:
    """Groups in which every pair is near."""
    return tuple(tuple(group) for group in complete_link_groups(pairs.positions))


def duplicate_findings(pictures: Pictures, found: Duplicates) -> Iterator[Finding]:
    """Leaks first, then one picture under several classes, then equal and near groups."""
    partners = _partners(found)
    yield from _leaks(pictures, partners)
    yield from _conflicts(pictures, partners)
    for number, group in enumerate(found.equal, 1):
        for row in group:
            yield finding_of(pictures, row, kind="exact", group=number, value=None)
    yield from _near_groups(pictures, found)


def _partners(found: Duplicates) -> dict[int, dict[int, float]]:
    """The similarity of each picture to each other that is equal or near, both ways."""
    partners: dict[int, dict[int, float]] = defaultdict(dict)
    equal_to = {group[0]: group for group in found.equal}

    def join(one: int, other: int, cosine: float) -> None:
        partners[one][other] = partners[other][one] = cosine

    for group in found.equal:  # a thousand equal pictures are half a million pairs: each knows the first, it knows all
        for row in group[1:]:
            join(group[0], row, 1.0)
    for (first, second), cosine in zip(found.pairs.positions.tolist(), found.pairs.cosines.tolist(), strict=True):
        one, other = int(found.firsts[first]), int(found.firsts[second])
        join(one, other, cosine)
        for row in equal_to.get(one, ())[1:]:
            join(row, other, cosine)
        for row in equal_to.get(other, ())[1:]:
            join(one, row, cosine)
    return partners


def _leaks(pictures: Pictures, partners: dict[int, dict[int, float]]) -> Iterator[Finding]:
    """Held-out pictures that are in a split before theirs too, the surest first, each followed by what it is equal to.

    Through the first of a group of equal pictures all others of it are reached.
    """
    rank = [HELD_OUT.get(split, 0) for split in pictures.split]
    leaks: list[tuple[float, int, list[tuple[float, int]]]] = []
    for row in sorted(partners):
        if rank[row] == 0:
            continue
        known = dict(partners[row])
        for other, cosine in partners[row].items():
            if cosine == 1.0:
                known |= {third: value for third, value in partners[other].items() if third not in known}
        known.pop(row, None)
        before = sorted((-cosine, other) for other, cosine in known.items() if rank[other] < rank[row])
        if before:
            leaks.append((before[0][0], row, before))
    for number, (_, row, before) in enumerate(sorted(leaks), 1):
        yield finding_of(pictures, row, kind="leak", group=number, value=-before[0][0], note=_likeness(-before[0][0]))
        for cosine, other in before:
            yield finding_of(pictures, other, kind="leak", group=number, value=-cosine)


def _likeness(cosine: float) -> str:
    return "equal" if cosine == 1.0 else "nearly equal"


def _conflicts(pictures: Pictures, partners: dict[int, dict[int, float]]) -> Iterator[Finding]:
    """Pairs of equal or near pictures with two labels, the surest first; a picture is named once as the first."""
    labels = pictures.labels
    conflicts: list[tuple[float, int, list[tuple[float, int]]]] = []
    named: set[int] = set()
    for row in sorted(partners):
        others = sorted(
            (-cosine, other)
            for other, cosine in partners[row].items()
            if labels[row] >= 0 <= labels[other] and labels[row] != labels[other] and other not in named
        )
        if others:
            named.add(row)
            conflicts.append((others[0][0], row, others))
    for number, (_, row, others) in enumerate(sorted(conflicts), 1):
        similarity = -others[0][0]
        yield finding_of(pictures, row, kind="conflict", group=number, value=similarity, note=_likeness(similarity))
        for cosine, other in others:
            yield finding_of(pictures, other, kind="conflict", group=number, value=-cosine)


def _near_groups(pictures: Pictures, found: Duplicates) -> Iterator[Finding]:
    """The groups, the tightest first; then pairs that lie in no group together, as each is near to others too."""
    kind: Kind = "near"
    group_of = {position: number for number, group in enumerate(found.groups) for position in group}
    least: dict[int, float] = {}  # of a position, to the rest of its group
    loose: list[tuple[int, int, float]] = []
    for (first, second), cosine in zip(found.pairs.positions.tolist(), found.pairs.cosines.tolist(), strict=True):
        if group_of.get(first, -1) == group_of.get(second, -2):
            least[first] = least[second] = cosine  # they fall
        else:
            loose.append((first, second, cosine))
    order = sorted(found.groups, key=lambda group: (-min(least[position] for position in group), group))
    for number, group in enumerate(order, 1):
        for position in group:
            yield finding_of(pictures, int(found.firsts[position]), kind=kind, group=number, value=least[position])
    for number, (first, second, cosine) in enumerate(loose, len(order) + 1):
        for position in (first, second):
            row = int(found.firsts[position])
            yield finding_of(pictures, row, kind=kind, group=number, value=cosine, note="each is in another group too")

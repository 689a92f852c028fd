"""Groups of rows in which every pair is near: complete linkage over the near pairs alone.

Chains of pairs (single linkage) join pictures that have nothing in common; a group here has no such pair.
Source: Defays 1977, "An efficient algorithm for a complete link method", https://doi.org/10.1093/comjnl/20.4.364,
whose clusters at one height these are; found from the sorted pairs, as all others are farther.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def complete_link_groups(positions: NDArray[np.int64]) -> list[list[int]]:
    """Join rows into groups in which all pairs are among the given ones.

    Two groups are joined as soon as all pairs between them were seen, so the nearest first, as complete linkage does.

    Args:
        positions: [P, 2] rows of each pair, each pair once, the nearest first.

    Returns:
        The groups of two rows or more, each sorted, by their first row.
    """
    group_of: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    links: dict[int, dict[int, int]] = {}  # pairs seen between two groups, kept at both
    for first, second in positions.tolist():
        pair = []
        for row in (first, second):
            if row not in group_of:
                group_of[row], members[row], links[row] = row, [row], {}
            pair.append(group_of[row])
        one, other = pair
        if one == other:
            continue
        seen = links[one].get(other, 0) + 1
        links[one][other] = links[other][one] = seen
        if seen == len(members[one]) * len(members[other]):
            _join(one, other, group_of, members, links)
    found = [sorted(rows) for rows in members.values() if len(rows) > 1]
    return sorted(found)


def _join(
    one: int, other: int, group_of: dict[int, int], members: dict[int, list[int]], links: dict[int, dict[int, int]]
) -> None:
    if len(links[one]) + len(members[one]) < len(links[other]) + len(members[other]):
        one, other = other, one
    for row in members.pop(other):
        group_of[row] = one
        members[one].append(row)
    del links[one][other]
    for third, seen in links.pop(other).items():
        if third != one:
            del links[third][other]
            total = links[one].get(third, 0) + seen
            links[one][third] = links[third][one] = total

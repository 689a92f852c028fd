"""Pictures that are odd by themselves: dark, overexposed, empty, blurred, narrow, of another size or kind.

A limit is absolute and lies far from the median of the dataset too: where all pictures are dark, dark is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.services.curation.findings import Finding, Kind, finding_of
from contrastive_cli.services.curation.measures import Floats, Measures
from contrastive_cli.services.curation.pictures import Pictures

# Of 60,000 CIFAR-10 pictures and 4,077 faces of LFW these limits mark less than 1 in 500 each.
DARK: Final = 0.2  # largest luma of all but the lightest twentieth
BRIGHT: Final = 0.85  # least luma of all but the darkest twentieth
LOW_CONTRAST: Final = 0.03
LOW_ENTROPY: Final = 1.5  # bits, of 6
BLURRED: Final = 0.25
BLURRED_OF_MEDIAN: Final = 0.35
NARROW: Final = 1 / 3
ODD_SIZE: Final = 4.0
MINORITY: Final = 0.2  # of the pictures, up to which gray or colored ones are an exception
SMALLEST_SIDE: Final = 8  # pixels


def quality_findings(pictures: Pictures, measures: Measures) -> Iterator[Finding]:
    """Every picture that is odd by itself, list by list, the oddest first."""
    ratio = measures.shorter / measures.size.max(axis=1)
    side = np.maximum(measures.shorter, 1).astype(np.float64)
    median_side = float(np.median(side))
    empty = (measures.contrast < LOW_CONTRAST) & (measures.contrast < 0.5 * np.median(measures.contrast))
    empty |= (measures.entropy < LOW_ENTROPY) & (measures.entropy < 0.5 * np.median(measures.entropy))
    dark = (measures.light_end < DARK) & (measures.light_end < 0.5 * np.median(measures.light_end))
    shade = 1 - measures.dark_end
    bright = (measures.dark_end > BRIGHT) & (shade < 0.5 * np.median(shade))
    soft = measures.sharpness < min(BLURRED, BLURRED_OF_MEDIAN * float(np.median(measures.sharpness)))
    narrow = (ratio < NARROW) & (ratio < 0.5 * np.median(ratio))
    odd_size = np.maximum(side / median_side, median_side / side) > ODD_SIZE
    odd_size |= (side < SMALLEST_SIDE) & (side < median_side)
    yield from _listed(pictures, measures, "dark", dark, measures.light_end)
    yield from _listed(pictures, measures, "bright", bright, measures.dark_end, largest_first=True)
    yield from _listed(pictures, measures, "empty", empty & ~dark & ~bright, measures.contrast)
    yield from _listed(pictures, measures, "blurred", soft & ~empty & ~dark & ~bright, measures.sharpness)
    yield from _listed(pictures, measures, "aspect", narrow, ratio)
    notes = [f"{width} x {height}" for width, height in measures.size]
    yield from _listed(pictures, measures, "size", odd_size, side, notes=notes)
    yield from _listed(pictures, measures, "color", _of_the_minor_kind(measures), measures.color)


def _of_the_minor_kind(measures: Measures) -> NDArray[np.bool_]:
    gray = measures.is_gray
    share = float(gray.mean())
    if 0 < share <= MINORITY:
        return gray
    return ~gray if 0 < 1 - share <= MINORITY else np.zeros_like(gray)


def _listed(
    pictures: Pictures,
    measures: Measures,
    kind: Kind,
    chosen: NDArray[np.bool_],
    values: Floats,
    *,
    largest_first: bool = False,
    notes: list[str] | None = None,
) -> Iterator[Finding]:
    members = np.flatnonzero(chosen)
    order = members[np.argsort(-values[members] if largest_first else values[members], kind="stable")]
    for group, member in enumerate(order.tolist(), 1):
        yield finding_of(
            pictures,
            int(measures.rows[member]),
            kind=kind,
            group=group,
            value=float(values[member]),
            note="" if notes is None else notes[member],
        )

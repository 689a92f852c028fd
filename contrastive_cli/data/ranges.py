"""One range for all pictures of a data set, so that no brightness jumps between them; and what else must be said.

Only the heads of files are read, and the values of some of those that have more than eight bits. The range is what the
files declare (bits of a sample, sBIT, MaxSampleValue) where they agree and use it, else what their values span: a lone
value far from all others, such as a mark for missing pixels, does not count, nor do the few that would leave the
other 99.8 % less than a sixteenth of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.pictures import MOST_CHANNELS, AskedRange, PictureRange
from contrastive_cli.data.images import DECODING_ERRORS, MAX_PIXELS
from contrastive_cli.data.picture_values import Facts, look, read_deep
from contrastive_cli.data.quiet_decoders import quiet_decoders
from contrastive_cli.data.scaling import limits, measured

EIGHT_BITS = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".avif", ".heic", ".heif", ".pbm")
MOST_HEADS = 2000  # files whose first bytes are looked at
MOST_FILES = 256  # whose values are
MOST_VALUES = 2_000_000  # kept to tell what is rare
LEAST_SHARE = 1 / 16  # of a range, which the values must use
RARE = 1e-3
LEAST_DISTINCT = 16  # fewer different values are classes or a mask, of which none is an exception
SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What the files of a split have in common.

    Attributes:
        picture_range: For what has more than eight bits; None if nothing has.
        notes: What should be said once, a line each.
    """

    picture_range: PictureRange | None = None
    notes: tuple[str, ...] = ()


def survey_files(files: Sequence[Path], *, asked: AskedRange, bands: tuple[int, ...] | None) -> Survey:
    """Look at files that are to be decoded.

    Args:
        files: All of them, in any order.
        asked: "auto" measures the range, a range is taken as it is, None is none.
        bands: The bands that will be the channels; None takes the colors. Three and one have a range together, so that
            colors stay; other numbers of bands have one each.
    """
    candidates = [file for file in files if file.suffix.lower() not in EIGHT_BITS]
    looked = [(file, facts) for file in _evenly(candidates, MOST_HEADS) if (facts := _facts(file, bands)) is not None]
    deep = [(file, facts) for file, facts in looked if facts.is_deep]
    notes = _notes_on_bands([facts for _, facts in looked], bands)
    if asked is None or not deep:
        return Survey(picture_range=asked if asked != "auto" else None, notes=notes)
    samples = _sample(deep, bands)
    if asked != "auto":
        return Survey(picture_range=asked, notes=(*notes, *_notes_on_range(samples, asked)))
    if not samples:
        return Survey(notes=notes)  # all are damaged, which decoding will say of each
    declared = {facts.declared for _, facts in deep}
    found = _range_of(samples, declared.pop() if len(declared) == 1 else None)
    few = (
        f"; {len(looked) - len(deep)} of {len(looked)} have 8 bits and stay as they are"
        if len(deep) < len(looked)
        else ""
    )
    return Survey(picture_range=found, notes=(*notes, f"more than 8 bits: {describe(found)}{few}"))


def describe(picture_range: PictureRange) -> str:
    """A range in words."""
    low, high = limits(picture_range)
    if len(low) == 1:
        return f"{low[0]:.6g} becomes black, {high[0]:.6g} white"
    return "each band by its own range: " + ", ".join(f"{a:.6g} to {b:.6g}" for a, b in zip(low, high, strict=True))


def _facts(file: Path, bands: tuple[int, ...] | None) -> Facts | None:
    try:
        return look(file, most_pages=1 if bands is None else 1 + max(bands))
    except DECODING_ERRORS:  # decoding it will say what is wrong
        return None


def _evenly(files: Sequence[Path], most: int) -> list[Path]:
    ordered = sorted(files)
    if len(ordered) <= most:
        return ordered
    return [ordered[index] for index in np.linspace(0, len(ordered) - 1, most).astype(int)]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Sample:
    """Of one band of all files: the least and largest value, and values drawn at random, sorted."""

    low: float
    high: float
    values: NDArray[np.float64]


def _sample(deep: Sequence[tuple[Path, Facts]], bands: tuple[int, ...] | None) -> list[_Sample]:
    """One for all bands, or one a band."""
    step = max(1, -(-len(deep) // MOST_FILES))
    chosen = deep[::step]
    most = max(256, min(16384, MOST_VALUES // (len(chosen) * len(bands or (0,)))))

    def read(item: tuple[Path, Facts]) -> list[_Sample] | None:
        path, facts = item
        try:
            picture = read_deep(path, facts, wanted=1 + max(bands or (0,)), max_pixels=MAX_PIXELS)
            colors = range(min(3, picture.values.shape[2] - (picture.alpha is not None)))
            parts = [measured(picture, band) for band in bands or colors]
        except DECODING_ERRORS:
            return None
        groups = [np.concatenate(parts)] if len(parts) <= 3 else parts
        return [_drawn(values, most=most) for values in groups] if all(map(len, groups)) else None

    with quiet_decoders(), ThreadPoolExecutor(min(8, max(2, os.cpu_count() or 1)), "measure") as pool:
        found = [samples for samples in pool.map(read, chosen) if samples is not None]
    widths = Counter(map(len, found))
    if not widths:
        return []
    usual = widths.most_common(1)[0][0]
    columns = zip(*(samples for samples in found if len(samples) == usual), strict=True)
    return [
        _Sample(
            low=min(part.low for part in column),
            high=max(part.high for part in column),
            values=np.sort(np.concatenate([part.values for part in column])),
        )
        for column in columns
    ]


def _drawn(values: NDArray[np.float64], *, most: int) -> _Sample:
    low, high = float(values.min()), float(values.max())
    if len(values) > most:
        values = values[np.random.default_rng(SEED).integers(0, len(values), most)]
    return _Sample(low=low, high=high, values=np.concatenate([values, [low, high]]))


def _range_of(samples: Sequence[_Sample], declared: tuple[float, float] | None) -> PictureRange:
    spans = [_span(sample) for sample in samples]
    if declared is not None:
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        if declared[0] <= low and high <= declared[1] and high - low >= LEAST_SHARE * (declared[1] - declared[0]):
            return declared
    return spans[0] if len(spans) == 1 else tuple(spans)


def _span(sample: _Sample) -> tuple[float, float]:
    values = sample.values
    distinct = np.unique(values)
    first, last = 0, len(distinct) - 1
    while last - first > LEAST_DISTINCT:
        below, above = distinct[first + 1] - distinct[first], distinct[last] - distinct[last - 1]
        if below > distinct[last] - distinct[first + 1]:
            first += 1
        elif above > distinct[last - 1] - distinct[first]:
            last -= 1
        else:
            break
    low, high = float(distinct[first]), float(distinct[last])
    usual_low, usual_high = map(float, np.quantile(values[(values >= low) & (values <= high)], (RARE, 1 - RARE)))
    usual = usual_high - usual_low
    if 0 < usual < LEAST_SHARE * (high - low):
        low, high = max(low, usual_low - 3 * usual), min(high, usual_high + 3 * usual)
    return (low, high) if high > low else (low, low + 1.0)


def _notes_on_range(samples: Sequence[_Sample], asked: PictureRange) -> tuple[str, ...]:
    if not samples:
        return ()
    low, high = min(sample.low for sample in samples), max(sample.high for sample in samples)
    lows, highs = limits(asked)
    least, largest = float(lows.min()), float(highs.max())
    if min(high, largest) - max(low, least) < LEAST_SHARE * (largest - least):
        return (
            f"warning: the pictures use {low:.6g} to {high:.6g} of dataset.range {least:.6g} to {largest:.6g}, "
            "less than a sixteenth; --set dataset.range=auto measures it",
        )
    return ()


def _notes_on_bands(looked: Sequence[Facts], bands: tuple[int, ...] | None) -> tuple[str, ...]:
    """What becomes of a fourth band and further ones where nobody chose; a PNG's is transparency for certain."""
    if bands is not None:
        return ()
    many = Counter((facts.bands, facts.alpha == 3) for facts in looked if facts.kind == "tiff" and facts.bands > 3)
    notes = []
    for (number, is_alpha), count in sorted(many.items()):
        taken = "the fourth is taken for transparency" if is_alpha else "the first three are taken for red, green, blue"
        rest = "" if number == 4 and is_alpha else f", {'the others' if number > 4 else 'the fourth'} left out"
        files = "a TIFF" if count == 1 else f"{count} TIFFs"
        every = ", ".join(map(str, range(min(number, MOST_CHANNELS))))
        kept = "them all" if number <= MOST_CHANNELS else f"{MOST_CHANNELS} of them"
        notes.append(f"{files} of {number} bands: {taken}{rest}; --set 'dataset.bands=[{every}]' takes {kept}")
    return tuple(notes)

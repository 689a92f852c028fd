"""What is seen of pictures that lie decoded and small: light, color, sharpness, and a thumbnail.

Pictures of one size are looked at together: of small ones, numpy's calls would take longer than their pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRAY_SIDE: Final = 16  # of the gray thumbnail, whatever the shape of the picture
LEAST_CONTRAST: Final = 1e-3  # below which nothing can be said of sharpness
BINS: Final = 64  # of the histogram whose entropy is taken
_END_SHARE: Final = 0.05  # of the pixels, which are darker than the dark end
_LEVELS: Final = np.arange(256) / 255
_EDGE_SHARE: Final = 0.05  # of the pixels, whose second differences say how sharp the sharpest parts are

Other = TypeVar("Other")
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What was seen of one picture.

    Attributes:
        width: Pixels, upright.
        height: Pixels, upright.
        mean: Of red, green and blue (all the same for gray), in [0, 1].
        square: Means of their squares.
        dark_end: The luma below which 5 % of the pixels are, in [0, 1].
        light_end: The luma above which 5 % of the pixels are.
        contrast: Standard deviation of the luma.
        entropy: Of the luma in 64 steps, in bits.
        sharpness: Second differences of the sharpest twentieth of the pixels, over the contrast; 0 without contrast.
        color: Mean distance between the largest and the smallest of red, green and blue, in [0, 1].
        gray: uint8 [16, 16], the whole picture.
    """

    width: int
    height: int
    mean: tuple[float, float, float]
    square: tuple[float, float, float]
    dark_end: float
    light_end: float
    contrast: float
    entropy: float
    sharpness: float
    color: float
    gray: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Small:
    """An upright 8-bit picture, L or RGB, shrunk to be looked at, and the width and height that its file holds."""

    image: Image.Image
    size: tuple[int, int]

    @property
    def pixels(self) -> int:
        """That are held."""
        return self.image.width * self.image.height


def looks_of(found: Sequence[Small | Other]) -> list[Look | Other]:
    """Look at pictures, in order; what is none stays in its place."""
    groups: dict[tuple[str, tuple[int, int]], list[int]] = defaultdict(list)
    seen: dict[int, Look] = {}
    for place, one in enumerate(found):
        if isinstance(one, Small):
            groups[one.image.mode, one.image.size].append(place)
    for places in groups.values():
        pictures = [one for place in places if isinstance(one := found[place], Small)]
        seen |= dict(zip(places, _looks(pictures), strict=True))
    return [seen[place] if isinstance(one, Small) else one for place, one in enumerate(found)]


def _looks(pictures: Sequence[Small]) -> list[Look]:
    """Of pictures of one mode and one size, N of H x W."""
    is_gray = pictures[0].image.mode == "L"
    lumas = [each.image if is_gray else each.image.convert("L") for each in pictures]
    luma = np.stack([np.asarray(each) for each in lumas])  # [N, H, W]
    pixels = luma.shape[1] * luma.shape[2]
    shares = np.array([each.histogram() for each in lumas]) / pixels  # [N, 256]
    means, squares = (shares @ _LEVELS)[:, None], (shares @ _LEVELS**2)[:, None]  # [N, 1]
    contrast = np.sqrt(np.maximum(0.0, squares - means**2))[:, 0]
    color = np.zeros(len(pictures))
    if not is_gray:
        colors = np.stack([np.asarray(each.image) for each in pictures])  # [N, H, W, 3]
        means, squares, color = _color_statistics(colors)
    ends = [np.searchsorted(each, (_END_SHARE, 1 - _END_SHARE)) / 255 for each in np.cumsum(shares, axis=1)]
    thumbnails = [np.asarray(each.resize((GRAY_SIDE, GRAY_SIDE), Image.Resampling.BOX)) for each in lumas]
    rows = zip(
        pictures, _threes(means), _threes(squares), ends, contrast.tolist(), _entropy(shares).tolist(),
        _sharpness(luma, contrast).tolist(), color.tolist(), thumbnails, strict=True,
    )  # fmt: skip
    return [
        Look(
            width=each.size[0],
            height=each.size[1],
            mean=mean,
            square=square,
            dark_end=float(dark_end),
            light_end=float(light_end),
            contrast=own_contrast,
            entropy=entropy,
            sharpness=sharpness,
            color=own_color,
            gray=gray,
        )
        for each, mean, square, (dark_end, light_end), own_contrast, entropy, sharpness, own_color, gray in rows
    ]


def _color_statistics(colors: NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
    """Means and means of squares [N, 3] of [N, H, W, 3], in [0, 1], and how far the channels lie apart [N]."""
    flat = colors.reshape(len(colors), -1, 3)
    means = flat.mean(axis=1, dtype=np.float64) / 255
    squares = np.einsum("npc,npc->nc", flat, flat, dtype=np.float64) / (255**2 * flat.shape[1])
    red, green, blue = np.moveaxis(flat, 2, 0)
    apart = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return means, squares, apart.mean(axis=1, dtype=np.float64) / 255


def _threes(values: Floats) -> list[tuple[float, float, float]]:
    """[N, 1] or [N, 3] as N triples."""
    return [(row[0], row[0], row[0]) if len(row) == 1 else (row[0], row[1], row[2]) for row in values.tolist()]


def _entropy(shares: Floats) -> Floats:
    """Of histograms [N, 256], in bits."""
    occupied = shares.reshape(len(shares), BINS, -1).sum(axis=2)
    bits: Floats = -(occupied * np.log2(np.where(occupied > 0, occupied, 1))).sum(axis=1)
    return bits


def _sharpness(luma: NDArray[np.uint8], contrast: Floats) -> Floats:
    """Of pictures [N, H, W]."""
    if min(luma.shape[1:]) < 3:
        return np.zeros(len(luma))
    values = luma.astype(np.int16)
    around = values[:, :-2, 1:-1] + values[:, 2:, 1:-1] + values[:, 1:-1, :-2] + values[:, 1:-1, 2:]
    second = np.abs(around - 4 * values[:, 1:-1, 1:-1]).reshape(len(luma), -1)
    count = max(1, int(_EDGE_SHARE * second.shape[1]))
    largest = np.partition(second, second.shape[1] - count, axis=1)[:, -count:].astype(np.float32)
    edges = np.sqrt(np.square(largest).mean(axis=1, dtype=np.float64))
    return np.where(contrast < LEAST_CONTRAST, 0.0, edges / (255 * np.maximum(contrast, LEAST_CONTRAST)))

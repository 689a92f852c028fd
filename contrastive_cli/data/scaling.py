"""Values of any type to eight bits, by one range for all pictures of a data set, or by what a picture says alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.pictures import PictureRange
from contrastive_cli.data.picture_values import Values

WHITE = 255.0


def limits(picture_range: PictureRange) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high, [1] for all bands or [bands]."""
    pairs = np.array(picture_range, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def to_8_bit(picture: Values, bands: tuple[int, ...], *, picture_range: PictureRange | None) -> NDArray[np.uint8]:
    """Some bands of a picture as uint8 [H, W, len(bands)]; what was not measured becomes 0.

    With a range its low is 0, its high 255, and what lies beyond is clipped. Without one the type decides, and what is
    signed or a fraction is scaled by the picture's own values. Bands of eight bits stay as they are.
    """
    values = picture.values[:, :, list(bands)]
    if values.dtype != np.uint8:
        values = _scaled(values, picture, picture_range=picture_range)
    return 255 - values if picture.is_inverted else values


def over_white(colors: NDArray[np.uint8], picture: Values) -> NDArray[np.uint8]:
    """Colors [H, W, C] laid on white by the picture's band of transparency, where it has one."""
    if picture.alpha is None:
        return colors
    opaque = picture.full[1] if picture.full is not None else 1.0
    alpha = np.clip(picture.values[:, :, picture.alpha, None] / opaque, 0.0, 1.0)
    return np.rint(colors * alpha + WHITE * (1 - alpha)).astype(np.uint8)


def measured(picture: Values, band: int) -> NDArray[np.float64]:
    """The values of a band that are numbers and mean something, in one line."""
    values = picture.values[:, :, band].astype(np.float64).ravel()
    keep = np.isfinite(values)
    if picture.nodata is not None:
        keep &= values != picture.nodata
    return values[keep]


def _scaled(values: NDArray[Any], picture: Values, *, picture_range: PictureRange | None) -> NDArray[np.uint8]:
    numbers = values.astype(np.float64)
    missing = ~np.isfinite(numbers)
    if picture.nodata is not None:
        missing |= values == picture.nodata
    low, high = _limits_of(numbers, missing, picture) if picture_range is None else limits(picture_range)
    numbers[np.isposinf(numbers)] = high.max()
    missing &= ~(values == np.inf)
    numbers[missing] = -np.inf  # becomes 0, which is the low of every range
    numbers -= low
    numbers *= WHITE / np.maximum(high - low, 1e-300)
    return np.rint(np.clip(numbers, 0.0, WHITE, out=numbers), out=numbers).astype(np.uint8)


def _limits_of(
    numbers: NDArray[np.float64], missing: NDArray[np.bool_], picture: Values
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if picture.full is not None:
        return limits(picture.full)
    known = numbers[~missing]
    return limits((float(known.min()), float(known.max())) if known.size else (0.0, 1.0))

"""Look at every picture once, small: its size, what is seen of its light, color and sharpness, and a thumbnail.

A JPEG is shrunk by its decoder, so that a photo costs little, and only a chunk of pictures is held at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from contrastive_cli.core.pictures import PictureRange
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.images import (
    DECODING_ERRORS,
    MAX_PIXELS,
    BadImage,
    Images,
    decode,
    refuse_large,
    to_8_bit_colors,
    turn_upright,
)
from contrastive_cli.data.packing import in_order
from contrastive_cli.data.picture_formats import formats_of
from contrastive_cli.data.sources import BadFile

LOOKED_SIDE: Final = 96  # pixels of the shorter side at which sharpness and light are judged
GRAY_SIDE: Final = 16  # of the gray thumbnail, whatever the shape of the picture
LEAST_CONTRAST: Final = 1e-3  # below which nothing can be said of sharpness
BINS: Final = 64  # of the histogram whose entropy is taken
_END_SHARE: Final = 0.05  # of the pixels, which are darker than the dark end
_LEVELS: Final = np.arange(256) / 255
_EDGE_SHARE: Final = 0.05  # of the pixels, whose second differences say how sharp the sharpest parts are


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


def look_at_files(
    files: Sequence[Path], *, picture_range: PictureRange | None = None, progress: CountProgress | None = None
) -> Iterator[Look | BadFile]:
    """Look at image files, in order; what cannot be decoded comes as a BadFile."""
    return _look_at_all([str(file) for file in files], functools.partial(_file_look, files, picture_range), progress)


def look_at_arrays(
    names: Sequence[str], read: Callable[[int], Images], *, progress: CountProgress | None = None
) -> Iterator[Look | BadFile]:
    """Look at pictures that `read` gives as uint8 [C, H, W], in order."""
    return _look_at_all(names, lambda index: look_at_pixels(read(index)), progress)


def _look_at_all(
    names: Sequence[str], look: Callable[[int], Look], progress: CountProgress | None
) -> Iterator[Look | BadFile]:
    def one(index: int) -> Look | BadFile:
        try:
            return look(index)
        except BadImage as error:
            return BadFile(path=names[index], reason=error.reason)

    for number, found in enumerate(in_order(one, len(names)), 1):
        yield found
        if progress is not None and (number % 64 == 0 or number == len(names)):
            progress(number, len(names))


def _file_look(files: Sequence[Path], picture_range: PictureRange | None, index: int) -> Look:
    path = files[index]
    if picture_range is not None or not path.is_file():  # `decode` says what else it is, without opening a FIFO
        return look_at_pixels(decode(path, size=None, channels=3, picture_range=picture_range))
    try:
        with Image.open(path, formats=formats_of(path)) as image:
            refuse_large(image, path=path, max_pixels=MAX_PIXELS)
            stored = image.size
            if min(stored) >= 4 * LOOKED_SIDE:
                image.draft(None, (2 * LOOKED_SIDE, 2 * LOOKED_SIDE))  # JPEG only
            image.load()
            shrunk = image.size
            upright = turn_upright(image)
            turned = upright.size != shrunk  # a square stays one
            return _look(to_8_bit_colors(upright), size=stored[::-1] if turned else stored)
    except UnidentifiedImageError:
        return look_at_pixels(decode(path, size=None, channels=3))
    except BadImage:
        raise
    except DECODING_ERRORS:
        decode(path, size=None, channels=3)  # says in one line why not
        raise BadImage(path, "it can be decoded in full only") from None


def look_at_pixels(pixels: Images) -> Look:
    """Look at one picture uint8 [C, H, W] of 1 or 3 channels; of others the first, or the first three."""
    channels = 3 if pixels.shape[0] >= 3 else 1
    image = Image.fromarray(pixels[0] if channels == 1 else np.ascontiguousarray(pixels[:3].transpose(1, 2, 0)))
    return _look(image, size=image.size)


def _look(image: Image.Image, *, size: tuple[int, int]) -> Look:
    """Of an upright 8-bit picture, whose file holds `size` pixels."""
    side = min(image.size)
    if side > LOOKED_SIDE:
        scale = LOOKED_SIDE / side
        small = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(small, Image.Resampling.BILINEAR, reducing_gap=2.0)
    is_gray = image.mode == "L"
    luma = image if is_gray else image.convert("L")
    shares = np.array(luma.histogram()) / (luma.width * luma.height)  # [256], far faster than the pixels
    ends = np.searchsorted(np.cumsum(shares), (_END_SHARE, 1 - _END_SHARE))
    mean, square = float(shares @ _LEVELS), float(shares @ _LEVELS**2)
    contrast = max(0.0, square - mean**2) ** 0.5
    occupied = shares.reshape(BINS, -1).sum(axis=1)
    occupied = occupied[occupied > 0]
    means, squares, color = (mean,) * 3, (square,) * 3, 0.0
    if not is_gray:
        colors = np.array(image.histogram()).reshape(3, 256) / (luma.width * luma.height)
        means, squares = _three(colors @ _LEVELS), _three(colors @ _LEVELS**2)
        red, green, blue = np.moveaxis(np.asarray(image), 2, 0)
        largest, smallest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
        color = float(largest.mean() - smallest.mean()) / 255
    return Look(
        width=size[0],
        height=size[1],
        mean=means,
        square=squares,
        dark_end=float(ends[0]) / 255,
        light_end=float(ends[1]) / 255,
        contrast=contrast,
        entropy=float(-(occupied * np.log2(occupied)).sum()),
        sharpness=_sharpness(np.asarray(luma), contrast),
        color=color,
        gray=np.asarray(luma.resize((GRAY_SIDE, GRAY_SIDE), Image.Resampling.BOX)),
    )


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


def _sharpness(luma: NDArray[np.uint8], contrast: float) -> float:
    if min(luma.shape) < 3 or contrast < LEAST_CONTRAST:
        return 0.0
    values = luma.astype(np.int16)
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    second = np.abs(around - 4 * values[1:-1, 1:-1]).ravel()
    count = max(1, int(_EDGE_SHARE * second.size))
    largest = np.partition(second, second.size - count)[-count:].astype(np.float32)
    return float(np.sqrt(np.square(largest).mean())) / (255 * contrast)

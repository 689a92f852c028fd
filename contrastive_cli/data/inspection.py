"""Look at every picture once, small: its size, what is seen of its light, color and sharpness, and a thumbnail.

A JPEG is shrunk by its decoder, so that a photo costs little, and only a chunk of pictures is held at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
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
from contrastive_cli.data.looks import Look, Small, looks_of
from contrastive_cli.data.packing import parts_in_order
from contrastive_cli.data.picture_formats import formats_of
from contrastive_cli.data.sources import BadFile

LOOKED_SIDE: Final = 96  # pixels of the shorter side at which sharpness and light are judged
MOST_HELD: Final = 2**21  # pixels: a picture may be narrow, and so as long as its file says


def look_at_files(
    files: Sequence[Path], *, picture_range: PictureRange | None = None, progress: CountProgress | None = None
) -> Iterator[Look | BadFile]:
    """Look at image files, in order; what cannot be decoded comes as a BadFile."""
    return _look_at_all([str(file) for file in files], functools.partial(_of_file, files, picture_range), progress)


def look_at_arrays(
    names: Sequence[str], read: Callable[[int], Images], *, progress: CountProgress | None = None
) -> Iterator[Look | BadFile]:
    """Look at pictures that `read` gives as uint8 [C, H, W], in order."""
    return _look_at_all(names, lambda index: _of_pixels(read(index)), progress)


def _look_at_all(
    names: Sequence[str], small: Callable[[int], Small], progress: CountProgress | None
) -> Iterator[Look | BadFile]:
    def one(index: int) -> Small | BadFile:
        try:
            return small(index)
        except BadImage as error:
            return BadFile(path=names[index], reason=error.reason)

    def part(indices: range) -> list[Look | BadFile]:
        looks: list[Look | BadFile] = []
        held: list[Small | BadFile] = []
        pixels = 0
        for index in indices:
            found = one(index)
            held.append(found)
            pixels += found.pixels if isinstance(found, Small) else 0
            if pixels > MOST_HELD:
                looks += looks_of(held)
                held, pixels = [], 0
        return looks + looks_of(held)

    for number, found in enumerate(parts_in_order(part, len(names)), 1):
        yield found
        if progress is not None and (number % 64 == 0 or number == len(names)):
            progress(number, len(names))


def _of_file(files: Sequence[Path], picture_range: PictureRange | None, index: int) -> Small:
    path = files[index]
    if picture_range is not None or not path.is_file():  # `decode` says what else it is, without opening a FIFO
        return _of_pixels(decode(path, size=None, channels=3, picture_range=picture_range))
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
            return _shrunk(to_8_bit_colors(upright), size=stored[::-1] if turned else stored)
    except UnidentifiedImageError:
        return _of_pixels(decode(path, size=None, channels=3))
    except BadImage:
        raise
    except DECODING_ERRORS:
        decode(path, size=None, channels=3)  # says in one line why not
        raise BadImage(path, "it can be decoded in full only") from None


def look_at_pixels(pixels: Images) -> Look:
    """Look at one picture uint8 [C, H, W] of 1 or 3 channels; of others the first, or the first three."""
    (found,) = looks_of([_of_pixels(pixels)])
    return found


def _of_pixels(pixels: Images) -> Small:
    channels = 3 if pixels.shape[0] >= 3 else 1
    image = Image.fromarray(pixels[0] if channels == 1 else np.ascontiguousarray(pixels[:3].transpose(1, 2, 0)))
    return _shrunk(image, size=image.size)


def _shrunk(image: Image.Image, *, size: tuple[int, int]) -> Small:
    """An upright 8-bit picture, whose file holds `size` pixels, at the side at which it is looked at."""
    side = min(image.size)
    if side > LOOKED_SIDE:
        scale = LOOKED_SIDE / side
        small = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(small, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return Small(image=image, size=size)

"""Pictures that are in memory already, as PIL images or arrays, made into the squares that files become."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.framing import Framing
from contrastive_cli.data.images import DECODING_ERRORS, Images, to_8_bit_colors, turn_upright
from contrastive_cli.data.squares import Square

COLORS = (1, 3, 4)  # channels that Pillow knows: gray, RGB, RGB with transparency


def opened_square(image: Image.Image, square: Square, *, ranged: bool = False) -> Images:
    """A PIL image as `decode` makes its file: EXIF orientation applied, alpha on white, resized, center-cropped.

    A JPEG that is decoded by this package may be shrunk while it is decoded, which changes pixels a little.

    Args:
        image: Of any mode.
        square: What it is to become.
        ranged: Whether pictures of more than eight bits are scaled by a range that files alone are read with.

    Returns:
        uint8 [C, S, S].

    Raises:
        DataError: If it cannot be decoded, or has more than eight bits where these have a range.
    """
    if ranged and (image.mode.startswith("I") or image.mode == "F"):
        raise DataError("this run scales pictures of more than eight bits by their range", hint="give the file's path")
    try:
        return square.of(to_8_bit_colors(turn_upright(image)))
    except DECODING_ERRORS as error:
        raise DataError(f"cannot use a PIL image of mode {image.mode}: {' '.join(str(error).split())[:200]}") from None


def array_square(pixels: NDArray[np.uint8], *, size: int, channels: int, framing: Framing | None = None) -> Images:
    """A picture as an array: uint8 [H, W, C] -> [C, S, S]; without a framing one of that size stays as it is.

    Raises:
        DataError: If it has other channels than can become `channels`.
    """
    height, width, found = pixels.shape
    square = Square(size=size, channels=channels, framing=framing)
    if framing is None and found == channels and (height, width) == (size, size):
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if channels in (1, 3) and found in COLORS:
        image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if found == 1 else pixels))
        return opened_square(image, square)
    if found != channels:
        raise DataError(
            f"pictures of {found} channels, and the encoder takes {channels}",
            hint="arrays are uint8 [N, H, W, C], one picture [H, W, C] or [H, W]; tensors are [N, C, H, W]",
        )
    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, 2, 0)]
    return np.concatenate([replace(square, channels=1).of(band) for band in bands])

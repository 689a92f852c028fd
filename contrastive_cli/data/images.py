"""Decode one image file that may be anything, into uint8 [C, S, S], or say in one line why not.

Color is what a person sees: EXIF orientation applied, alpha composited on white, 16-bit and float scaled by range.
With `bands` a picture is what it holds instead: these bands of it, transparency being one like the others.
ICC profiles are deliberately left out. Truncated files are errors: a guess at missing pixels is no data.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.pictures import PictureRange
from contrastive_cli.data.picture_formats import FORMATS, HEAD_BYTES, formats_of, formats_of_head
from contrastive_cli.data.picture_values import Facts, Values, look, read_deep
from contrastive_cli.data.scaling import over_white, to_8_bit
from contrastive_cli.data.squares import Square

MAX_PIXELS = 89_478_485  # Pillow's own limit for a warning; here it is an error
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Channels = int  # 1 for gray, 3 for RGB, or the number of bands that were chosen
Images = NDArray[np.uint8]

# What Pillow and the libraries below it were seen to raise on damaged files.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)


class BadImage(DataError):  # noqa: N818 - it names a file, like Interrupted names an event
    """A file that cannot be decoded.

    Args:
        path: The file.
        reason: Why, in one line.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read image {os.fspath(path)!r}: {reason}", path=path)
        self.reason = reason


def decode(
    path: Path,
    *,
    size: int | None,
    channels: Channels,
    picture_range: PictureRange | None = None,
    bands: tuple[int, ...] | None = None,
    framing: Framing | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Images:
    """Decode the first frame of an image file.

    Args:
        path: The file.
        size: Pixels of the square result: shorter side resized (antialiased), then center-cropped; None keeps all.
        channels: 3 for RGB, 1 for luma; with `bands` their number.
        picture_range: What becomes 0 and 255 of pictures of more than eight bits. Without it 16-bit ones are scaled by
            65535, and signed and float ones each by its own range.
        bands: The bands that become the channels, counted from 0; None takes the colors.
        framing: How the square is made, if not by that; every pixel is decoded then.
        max_pixels: Larger images are refused before any pixel is decoded.

    Returns:
        uint8 [C, S, S], or [C, H, W] if `size` is None.

    Raises:
        BadImage: If the file is not a whole image of a known format, or too large, or lacks a band.
    """
    square = Square(size=size, channels=channels, framing=framing)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            raise BadImage(path, "not a regular file")
        facts = Facts()
        if picture_range is not None or bands is not None:
            facts = look(path, most_pages=1 if bands is None else 1 + max(bands))
        if facts.is_deep or (bands is not None and facts.kind == "tiff" and facts.bands not in (1, 3)):
            picture = read_deep(path, facts, wanted=1 + max(bands or (0,)), max_pixels=max_pixels)
            return _finish(path, picture, square, picture_range=picture_range, bands=bands)
        with Image.open(path, formats=formats_of(path)) as image:
            _load(image, square, path=path, max_pixels=max_pixels)
            if bands is None:
                return square.of(to_8_bit_colors(turn_upright(image)))
            picture = Values(values=_stored_bands(turn_upright(image)), full=None)
            return _finish(path, picture, square, picture_range=picture_range, bands=bands)
    except UnidentifiedImageError:
        return _decode_unidentified(path, square, max_pixels=max_pixels)
    except DECODING_ERRORS as error:
        raise BadImage(path, _one_line(error)) from None


def decode_bytes(
    content: bytes,
    *,
    name: Path,
    size: int | None,
    channels: Channels,
    framing: Framing | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Images:
    """Decode the first frame of an image whose file is in memory, as `decode` does without a range and bands.

    Args:
        content: All of the file.
        name: Of the image, for messages.
        size: As in `decode`.
        channels: As in `decode`.
        framing: As in `decode`.
        max_pixels: As in `decode`.

    Returns:
        uint8 [C, S, S], or [C, H, W] if `size` is None.

    Raises:
        BadImage: If it is not a whole image of a known format, or too large.
    """
    square = Square(size=size, channels=channels, framing=framing)
    try:
        with Image.open(io.BytesIO(content), formats=formats_of_head(content[:HEAD_BYTES])) as image:
            _load(image, square, path=name, max_pixels=max_pixels)
            return square.of(to_8_bit_colors(turn_upright(image)))
    except UnidentifiedImageError:
        reason = f"not an image in a known format ({', '.join(FORMATS)}, AVIF, HEIC)" if content else "it is empty"
        raise BadImage(name, reason) from None
    except DECODING_ERRORS as error:
        raise BadImage(name, _one_line(error)) from None


def _load(image: Image.Image, square: Square, *, path: Path, max_pixels: int) -> None:
    """Decode the pixels, of a JPEG no more of them than the square needs."""
    refuse_large(image, path=path, max_pixels=max_pixels)
    size = square.size
    if size is not None and square.may_be_drafted and min(image.size) >= 4 * size:
        image.draft(None, (2 * size, 2 * size))  # JPEG only: the decoder itself shrinks by 2, 4 or 8
    image.load()


def _decode_unidentified(path: Path, square: Square, *, max_pixels: int) -> Images:
    """A TIFF of more bands than Pillow opens; what else Pillow does not know is no image."""
    try:
        facts = look(path)
        if facts.kind == "tiff":
            picture = read_deep(path, facts, wanted=1, max_pixels=max_pixels)
            return _finish(path, picture, square, picture_range=None, bands=None)
    except DECODING_ERRORS as error:
        raise BadImage(path, _one_line(error)) from None
    raise BadImage(path, _unidentified(path))


def _finish(
    path: Path,
    picture: Values,
    square: Square,
    *,
    picture_range: PictureRange | None,
    bands: tuple[int, ...] | None,
) -> Images:
    """Scale, turn upright and resize the values of a picture."""
    found = picture.values.shape[2]
    if bands is not None:
        if max(bands) >= found:
            raise BadImage(
                path,
                f"there is no band {max(bands)}, counted from 0: it has {found} {'band' if found == 1 else 'bands'}",
            )
        pixels = to_8_bit(picture, bands, picture_range=picture_range)
        parts = [
            replace(square, channels=1).of(_turned(Image.fromarray(np.ascontiguousarray(band)), picture))
            for band in np.moveaxis(pixels, 2, 0)
        ]
        return np.concatenate(parts)
    colors = (0, 1, 2) if found - (picture.alpha is not None) >= 3 else (0,)
    pixels = over_white(to_8_bit(picture, colors, picture_range=picture_range), picture)
    image = Image.fromarray(np.ascontiguousarray(pixels if len(colors) == 3 else pixels[:, :, 0]))
    return square.of(_turned(image, picture))


def _turned(image: Image.Image, picture: Values) -> Image.Image:
    return image.transpose(UPRIGHT[picture.orientation]) if picture.orientation in UPRIGHT else image


def _stored_bands(image: Image.Image) -> NDArray[np.generic]:
    """[H, W, bands] as they are in the file, the colors of a palette and of other models as RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image)[:, :, None]
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGBA" if image.has_transparency_data else "RGB")
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def refuse_large(image: Image.Image, *, path: Path, max_pixels: int) -> None:
    """Refuse a picture of more pixels, as its head says, before any is decoded. Raises BadImage."""
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise BadImage(path, f"{image.width} x {image.height} pixels are more than the limit of {max_pixels}")


def turn_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a corrupt EXIF block does not make good pixels bad."""
    try:
        if image.getexif().get(ORIENTATION, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except DECODING_ERRORS:
        return image


def to_8_bit_colors(image: Image.Image) -> Image.Image:
    """Any mode to L or RGB: alpha on white, 16-bit, integer and float modes scaled to 8 bit."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scale_to_8_bit(np.asarray(image)))
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        white = Image.new("RGBA", colors.size, "white")
        return Image.alpha_composite(white, colors).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scale_to_8_bit(values: NDArray[np.generic]) -> Images:
    """Scale [H, W] by 65535 when the values are 16-bit, else by their own finite range (float, wide integers)."""
    scaled = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(scaled.min()), float(scaled.max())
    if np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    return np.rint((scaled - low) * (255.0 / max(high - low, 1e-300))).astype(np.uint8)


def _unidentified(path: Path) -> str:
    with contextlib.suppress(OSError):
        if path.stat().st_size == 0:
            return "the file is empty"
        if (formats := formats_of(path)) != FORMATS:
            return f"a damaged {formats[0]} picture"
    return f"not an image in a known format ({', '.join(FORMATS)}, AVIF, HEIC)"


def _one_line(error: Exception | Warning) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (" ".join(str(error).split()) or type(error).__name__)[:200]

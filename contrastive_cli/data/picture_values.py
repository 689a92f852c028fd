"""The values of a picture that eight bits and three bands do not hold, as they are stored: no scaling here.

What a file is, is read off its first bytes: a PNG of 16 bits, a PNM whose largest value is above 255, a TIFF of wide,
signed or float samples or of many bands. All other pictures are Pillow's alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from contrastive_cli.data import tiff_pages
from contrastive_cli.data.tiff_pages import Page, read_pages

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
HEAD_BYTES = 4096
VALUES_A_PIXEL = 4  # a picture of more bands must have fewer pixels
_PNG_BANDS = {0: 1, 2: 3, 4: 2, 6: 4}
_GRAY_PHOTOMETRIC = (0, 1, 32803, 34892)  # what is no color of a model: gray, a sensor's mosaic, linear raw


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the head of a file says.

    Attributes:
        kind: png, pnm, tiff, or other: eight bits, read by Pillow.
        bands: Of a pixel, transparency among them; 0 where only decoding would tell.
        bits: Of a band.
        is_deep: Whether Pillow would lose values: more than eight bits, a sign, a fraction.
        declared: Least and largest value by the file's own word, where that says more than the type does.
        alpha: The band that is transparency; None if none is.
        pages: Of a TIFF.
    """

    kind: str = "other"
    bands: int = 0
    bits: int = 8
    is_deep: bool = False
    declared: tuple[float, float] | None = None
    alpha: int | None = None
    pages: tuple[Page, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Values:
    """A picture before scaling.

    Attributes:
        values: [H, W, bands].
        full: Least and largest value of the type, or of what the file declares; None for signed and float ones.
        nodata: The value that means that nothing was measured.
        is_inverted: Whether the least value is white.
        orientation: As EXIF's.
    """

    values: NDArray[Any]
    full: tuple[float, float] | None
    alpha: int | None = None
    nodata: float | None = None
    is_inverted: bool = False
    orientation: int = 1


def look(path: Path, *, most_pages: int = 1) -> Facts:
    """What a file is, by its first bytes; anything that is not understood is left to Pillow.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is a TIFF that nobody reads, with the reason.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head.startswith(PNG_MAGIC):
            return _look_at_png(head)
        if head[:2] in (b"P5", b"P6"):
            return _look_at_pnm(head)
        if head[:4] in tiff_pages.MAGIC:
            file.seek(0)
            return _look_at_tiff(tuple(read_pages(file, most=most_pages)))
    return Facts()


def read_deep(path: Path, facts: Facts, *, wanted: int, max_pixels: int) -> Values:
    """The values of a picture that `look` found to be deep, or of a TIFF of any kind.

    Args:
        path: The file.
        facts: Of it.
        wanted: Bands that are wanted; where a page has one band, pages of equal shape are taken for bands.
        max_pixels: Larger pictures are refused.

    Raises:
        ValueError, OSError: If it is damaged, too large, or not read.
    """
    if facts.kind == "tiff":
        return _tiff_values(path, facts, wanted=wanted, max_pixels=max_pixels)
    if facts.kind == "pnm":
        return Values(values=_pnm_values(path, max_pixels=max_pixels), full=facts.declared or (0.0, 65535.0))
    values, orientation = _png_values(path, bands=facts.bands, max_pixels=max_pixels)
    return Values(values=values, full=(0.0, 65535.0), alpha=facts.alpha, orientation=orientation)


def _look_at_png(head: bytes) -> Facts:
    if len(head) < 33 or head[12:16] != b"IHDR":
        return Facts()
    bits, color = head[24], head[25]
    bands = _PNG_BANDS.get(color, 0)
    if bits != 16 or not bands:
        return Facts(kind="png", bands=bands, bits=8)
    significant = _significant_bits(head)
    declared = (0.0, 2.0**significant - 1) if 8 < significant < 16 else None
    alpha = bands - 1 if color in (4, 6) else None
    return Facts(kind="png", bands=bands, bits=16, is_deep=True, declared=declared, alpha=alpha)


def _significant_bits(head: bytes) -> int:
    """The largest number of the chunk sBIT, which stands before the pixels; 0 without one."""
    place = 8
    while place + 8 <= len(head):
        (length,), name = struct.unpack(">I", head[place : place + 4]), head[place + 4 : place + 8]
        if name == b"sBIT":
            return max(head[place + 8 : place + 8 + min(length, 3)], default=0)
        if name == b"IDAT":
            return 0
        place += 12 + length
    return 0


def _look_at_pnm(head: bytes) -> Facts:
    try:
        _, _, largest, _ = _pnm_head(head)
    except ValueError:
        return Facts()  # Pillow says what is wrong
    bands = 3 if head[:2] == b"P6" else 1
    declared = (0.0, float(largest)) if 255 < largest < 65535 else None
    return Facts(kind="pnm", bands=bands, bits=16 if largest > 255 else 8, is_deep=largest > 255, declared=declared)


def _pnm_head(head: bytes) -> tuple[int, int, int, int]:
    """Width, height, largest value, and where the pixels begin; a comment runs from # to the end of its line."""
    numbers: list[int] = []
    place = 2
    while len(numbers) < 3:
        letter = head[place : place + 1]
        if letter == b"#":
            place = head.index(b"\n", place)
        elif letter.isdigit():
            end = place
            while head[end : end + 1].isdigit():
                end += 1
            numbers.append(int(head[place:end]))
            place = end
            continue
        elif not letter.isspace():
            raise ValueError("no PNM header")
        place += 1
    width, height, largest = numbers
    if not 0 < largest <= 65535:
        raise ValueError("a PNM must have a largest value from 1 to 65535")
    return width, height, largest, place + 1


def _pnm_values(path: Path, *, max_pixels: int) -> NDArray[Any]:
    with path.open("rb") as file:
        width, height, _, start = _pnm_head(file.read(HEAD_BYTES))
    if width * height > max_pixels:
        raise ValueError(f"{width} x {height} pixels are more than the limit of {max_pixels}")
    data = path.read_bytes()
    bands = 3 if data[:2] == b"P6" else 1
    if len(data) < start + 2 * width * height * bands:
        raise ValueError("Truncated File Read")
    values = np.frombuffer(data, ">u2", width * height * bands, start)
    return values.astype(np.uint16).reshape(height, width, bands)


def _look_at_tiff(pages: tuple[Page, ...]) -> Facts:
    page = pages[0]
    is_plain = page.photometric in (*_GRAY_PHOTOMETRIC, tiff_pages.RGB)
    deep = is_plain and (page.bits > 8 or page.kind != "u")
    return Facts(
        kind="tiff",
        bands=page.bands,
        bits=page.bits,
        is_deep=deep,
        declared=page.declared if deep else None,
        alpha=_alpha_of(page),
        pages=pages,
    )


def _alpha_of(page: Page) -> int | None:
    """The band after color that the tags call transparency; where they say nothing, the fourth of four, as Pillow."""
    colors = 3 if page.photometric == tiff_pages.RGB else 1
    if page.bands <= colors:
        return None
    if not page.extra:
        return 3 if colors == 3 and page.bands == 4 else None
    return colors if page.extra[0] in (1, 2) else None


def _tiff_values(path: Path, facts: Facts, *, wanted: int, max_pixels: int) -> Values:
    page = facts.pages[0]
    if page.width * page.height > max_pixels:
        raise ValueError(f"{page.width} x {page.height} pixels are more than the limit of {max_pixels}")
    alike = [other for other in facts.pages if (other.width, other.height, other.bands) == (page.width, page.height, 1)]
    pages = alike[:wanted] if page.bands == 1 and wanted > 1 and len(alike) >= wanted else [page]
    with path.open("rb") as file:
        parts = [tiff_pages.read_values(file, one, max_values=VALUES_A_PIXEL * max_pixels) for one in pages]
    return Values(
        values=parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2),
        full=facts.declared or ((0.0, 2.0**page.bits - 1) if page.kind == "u" else None),
        alpha=facts.alpha,
        nodata=page.nodata,
        is_inverted=page.photometric == tiff_pages.WHITE_IS_ZERO,
        orientation=page.orientation,
    )


def _png_values(path: Path, *, bands: int, max_pixels: int) -> tuple[NDArray[Any], int]:
    """A PNG of 16 bits: gray as Pillow gives it, color from two readings, of the high bytes and of the low ones."""
    with PngImagePlugin.PngImageFile(path) as image:
        if image.width * image.height > max_pixels:
            raise ValueError(f"{image.width} x {image.height} pixels are more than the limit of {max_pixels}")
        if bands == 1:
            image.load()
            return np.asarray(image)[:, :, None].astype(np.uint16), _orientation(image)
        # Gray with transparency: two numbers of 16 bits are as long as four of 8.
        high = _read_raw(image, raw="RGBA" if bands == 2 else "RGB;16B" if bands == 3 else "RGBA;16B")
        orientation = _orientation(image)
    if bands == 2:
        return (high[:, :, ::2].astype(np.uint16) << 8) | high[:, :, 1::2], orientation
    with PngImagePlugin.PngImageFile(path) as image:
        low = _read_raw(image, raw="RGB;16L" if bands == 3 else "RGBA;16L")
    return (high.astype(np.uint16) << 8) | low, orientation


def _read_raw(image: ImageFile.ImageFile, *, raw: str) -> NDArray[np.uint8]:
    image.tile = [tile._replace(args=raw) for tile in image.tile]
    image.load()
    return np.asarray(image)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(tiff_pages.ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, LookupError, struct.error):  # a corrupt block; the pixels are good
        return 1

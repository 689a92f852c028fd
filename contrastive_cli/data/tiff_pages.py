"""Read the values of a TIFF page that Pillow cannot give: many bands, color of 16 bits, signed integers, any float.

Pillow's own reader parses the tags, and its libtiff expands what zlib does not; this module puts rows, tiles and bands
together. Photographs of eight bits never come here.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

# Tags, by the names of the TIFF 6.0 specification.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS = 273, 274, 277, 278, 279
MIN_SAMPLE, MAX_SAMPLE, PLANAR, PREDICTOR = 280, 281, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA_SAMPLES, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
NODATA = 42113  # GDAL's

MAGIC = (b"II*\0", b"MM\0*", b"II+\0")
NO_COMPRESSION, DEFLATE = 1, (8, 32946)
EXPANDED_BY_LIBTIFF = (5, 32773, 34925, 50000)  # LZW, PackBits, LZMA, Zstandard
WITHOUT_PREDICTOR = (NO_COMPRESSION, 32773)
WHITE_IS_ZERO, RGB = 0, 2
MAX_BANDS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What the tags of a page say.

    Attributes:
        bands: Samples a pixel.
        bits: Of a sample.
        kind: u, i or f as numpy names unsigned, signed and float.
        photometric: 0 and 1 are gray, 2 is RGB; what else there is Pillow reads.
        extra: What the bands beyond color are: 1 and 2 is transparency, 0 is unsaid; one a band, or none at all.
        declared: Least and largest value by the tags, where they say more than the type does.
        nodata: The value that means that nothing was measured.
        orientation: As EXIF's.
    """

    width: int
    height: int
    bands: int
    bits: int
    kind: str
    photometric: int
    extra: tuple[int, ...]
    declared: tuple[float, float] | None
    nodata: float | None
    orientation: int
    tags: Any
    order: str


def read_pages(file: BinaryIO, *, most: int = 1) -> list[Page]:
    """The tags of the first pages of a file.

    Raises:
        ValueError: If the file has none that this module understands.
    """
    pages: list[Page] = []
    head = file.read(8)
    if head[:4] not in MAGIC:
        raise ValueError("not a TIFF")
    if head[2:3] == b"+":  # BigTIFF
        head += file.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    seen: set[int] = set()
    while tags.next and len(pages) < most and tags.next not in seen:
        seen.add(tags.next)
        file.seek(tags.next)
        tags.load(file)
        pages.append(_page(tags, order="<" if head[:2] == b"II" else ">"))
        following = TiffImagePlugin.ImageFileDirectory_v2(head)
        following.next = tags.next
        tags = following
    if not pages:
        raise ValueError("a TIFF without a page")
    return pages


def read_values(file: BinaryIO, page: Page, *, max_values: int) -> NDArray[Any]:
    """The samples of a page, [H, W, bands], in the machine's byte order.

    Raises:
        ValueError: If the page is too large, truncated, or written in a way that is not read.
    """
    if page.width * page.height * page.bands > max_values:
        raise ValueError(f"{page.width} x {page.height} pixels of {page.bands} bands are more than {max_values} values")
    if _tag(page, 266, 1) != 1:
        raise ValueError("a TIFF whose bits are in reverse order, which is not read")
    separate = _tag(page, PLANAR, 1) == 2
    tiled = TILE_OFFSETS in page.tags
    rows = _tag(page, TILE_HEIGHT if tiled else ROWS_PER_STRIP, page.height)
    rows = max(1, rows if tiled else min(rows, page.height))
    columns = _tag(page, TILE_WIDTH, page.width) if tiled else page.width
    if columns < 1 or rows * columns * page.bands > max_values:
        raise ValueError(f"a TIFF with tiles of {columns} x {rows} pixels")
    samples = 1 if separate else page.bands
    whole = np.zeros((page.height, page.width, page.bands), np.dtype(f"{page.kind}{_width_of(page.bits)}"))
    number = (page.bands if separate else 1) * -(-page.height // rows) * -(-page.width // columns)
    segments = _segments(file, page, tiled=tiled, number=number)
    places = (
        (plane, top, left)
        for plane in range(page.bands if separate else 1)
        for top in range(0, page.height, rows)
        for left in range(0, page.width, columns)
    )
    for (plane, top, left), data in zip(places, segments, strict=True):
        height = rows if tiled else min(rows, page.height - top)
        block = _block(data, page, shape=(height, columns, samples))
        block = block[: page.height - top, : page.width - left]
        first = plane if separate else 0
        whole[top : top + block.shape[0], left : left + block.shape[1], first : first + samples] = block
    return whole


def _page(tags: Any, *, order: str) -> Page:
    if WIDTH not in tags or HEIGHT not in tags:
        raise ValueError("a TIFF whose tags are damaged")
    bands = int(_first(tags.get(SAMPLES, 1)))
    bits = {int(number) for number in _all(tags.get(BITS, 1))}
    formats = {int(number) for number in _all(tags.get(SAMPLE_FORMAT, 1))}
    if len(bits) != 1 or len(formats) != 1 or not 1 <= bands <= MAX_BANDS:
        raise ValueError(f"a TIFF of {bands} bands of {sorted(bits)} bits, which is not read")
    (depth,), (sample_format,) = bits, formats
    kind = {1: "u", 2: "i", 3: "f", 4: "u"}.get(sample_format)
    if (
        kind is None
        or not 1 <= depth <= 64
        or (kind != "u" and depth not in (8, 16, 32, 64))
        or (kind, depth) == ("f", 8)
    ):
        raise ValueError(f"a TIFF of samples of {depth} bits in format {sample_format}, which is not read")
    return Page(
        width=int(tags[WIDTH]),
        height=int(tags[HEIGHT]),
        bands=bands,
        bits=depth,
        kind=kind,
        photometric=int(tags.get(PHOTOMETRIC, 1)),
        extra=tuple(int(number) for number in _all(tags.get(EXTRA_SAMPLES, ()))),
        declared=_declared(tags, bits=depth, kind=kind),
        nodata=_nodata(tags.get(NODATA)),
        orientation=int(tags.get(ORIENTATION, 1)),
        tags=tags,
        order=order,
    )


def _declared(tags: Any, *, bits: int, kind: str) -> tuple[float, float] | None:
    if kind == "u" and MAX_SAMPLE in tags:
        low, high = (
            min(map(float, _all(tags.get(MIN_SAMPLE, 0))), default=0.0),
            max(map(float, _all(tags[MAX_SAMPLE])), default=0.0),
        )
        if low < high < 2.0 ** (bits if bits <= 8 else -(-bits // 16) * 16) - 1:
            return low, high
    return (0.0, 2.0**bits - 1) if kind == "u" and 8 < bits < 16 else None


def _nodata(text: Any) -> float | None:
    try:
        return float(str(text).strip("\0 ")) if text is not None else None
    except ValueError:
        return None


def _segments(file: BinaryIO, page: Page, *, tiled: bool, number: int) -> Iterator[bytes]:
    offsets = _all(page.tags.get(TILE_OFFSETS if tiled else STRIP_OFFSETS, ()))
    counts = _all(page.tags.get(TILE_COUNTS if tiled else STRIP_COUNTS, ()))
    if len(offsets) < number or len(counts) < number:
        raise ValueError(f"a TIFF with {min(len(offsets), len(counts))} of {number} strips")
    for offset, count in zip(offsets[:number], counts[:number], strict=True):
        file.seek(int(offset))
        data = file.read(int(count))
        if len(data) < count:
            raise ValueError("Truncated File Read")
        yield data


def _block(data: bytes, page: Page, *, shape: tuple[int, int, int]) -> NDArray[Any]:
    """One strip or tile, expanded: [rows, columns, samples]."""
    rows, columns, samples = shape
    row_bytes = -(-columns * samples * page.bits // 8)
    data = _expand(data, compression=_tag(page, COMPRESSION, 1), rows=rows, row_bytes=row_bytes)
    if len(data) < rows * row_bytes:
        raise ValueError("Truncated File Read")
    lines = np.frombuffer(data, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    predictor = 1 if _tag(page, COMPRESSION, 1) in WITHOUT_PREDICTOR else _tag(page, PREDICTOR, 1)
    if predictor == 3 and page.kind == "f":
        return _undo_float_predictor(lines, page, shape=shape)
    if page.bits not in (8, 16, 32, 64):
        return _unpack_bits(lines, bits=page.bits, count=columns * samples).reshape(shape)
    dtype = np.dtype(f"{page.order}{page.kind}{page.bits // 8}")
    values = lines.view(dtype).reshape(shape)
    if predictor == 2:  # differences of neighbors, modulo the width of the type
        unsigned = values.view(np.dtype(f"{page.order}u{page.bits // 8}"))
        total: NDArray[Any] = np.cumsum(unsigned, axis=1, dtype=np.dtype(f"u{page.bits // 8}"))
        return total.view(np.dtype(f"{page.kind}{page.bits // 8}"))
    if predictor != 1:
        raise ValueError(f"a TIFF with predictor {predictor}, which is not read")
    return values


def _undo_float_predictor(lines: NDArray[np.uint8], page: Page, *, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Adobe's predictor 3: the bytes of a row by significance, the highest first, then as differences."""
    rows, columns, samples = shape
    width = page.bits // 8
    summed = np.cumsum(lines.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
    planes = summed.reshape(rows, width, columns * samples)
    joined = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(np.dtype(f">f{width}"))
    return joined.reshape(shape)


def _unpack_bits(lines: NDArray[np.uint8], *, bits: int, count: int) -> NDArray[Any]:
    """Samples of 10, 12 or 14 bits that lie one behind the other; rows begin at a byte."""
    digits = np.unpackbits(lines, axis=1)[:, : count * bits].reshape(len(lines), count, bits)
    total = np.zeros(digits.shape[:2], np.dtype(f"u{_width_of(bits)}"))
    for place in range(bits):
        total = (total << 1) | digits[:, :, place]
    return total


def _expand(data: bytes, *, compression: int, rows: int, row_bytes: int) -> bytes:
    if compression == NO_COMPRESSION:
        return data
    if compression in DEFLATE:
        return zlib.decompressobj().decompress(data, rows * row_bytes)  # never more: a file may be a bomb
    if compression not in EXPANDED_BY_LIBTIFF:
        raise ValueError(f"a TIFF with compression {compression}, which is not read with more than 8 bits or 4 bands")
    # The compressed bytes are those of any picture with as many bytes in a row: one of 8-bit gray.
    tags = {WIDTH: row_bytes, HEIGHT: rows, BITS: 8, COMPRESSION: compression, PHOTOMETRIC: 1, SAMPLES: 1}
    tags |= {STRIP_OFFSETS: 8 + 2 + 9 * 12 + 4, ROWS_PER_STRIP: rows, STRIP_COUNTS: len(data)}
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    head += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    with TiffImagePlugin.TiffImageFile(io.BytesIO(head + struct.pack("<I", 0) + data)) as image:
        return image.tobytes()


def _width_of(bits: int) -> int:
    return next(width for width in (1, 2, 4, 8) if bits <= 8 * width)


def _tag(page: Page, tag: int, default: int) -> int:
    return int(_first(page.tags.get(tag, default)))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _all(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)

"""TIFFs of all kinds against the tool that wrote them; what is written by libtiff against what went in."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image

from contrastive_cli.data.tiff_pages import read_pages, read_values

SHAPES = [(37, 29), (37, 29, 3), (37, 29, 4), (37, 29, 13)]
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"tile": (16, 16)},
    {"rowsperstrip": 5, "compression": "zlib"},
    {"bigtiff": True},
    {"byteorder": ">", "tile": (16, 32)},
]


def random_values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "u":
        return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    return (generator.normal(size=shape) * 100).astype(dtype)


def read(data: bytes, *, page: int = 0, most: int = 10**6) -> np.ndarray:
    file = io.BytesIO(data)
    return read_values(file, read_pages(file, most=page + 1)[page], max_values=most)


def written(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    color = "rgb" if values.ndim == 3 and 3 in (values.shape[0], values.shape[2]) else "minisblack"
    options = {"planarconfig": "contig", **options} if values.ndim == 3 else options
    tifffile.imwrite(file, values, photometric=color, **options)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_read_values__every_type_and_layout(dtype: str, layout: dict[str, Any]) -> None:
    for shape in SHAPES:
        values = random_values(dtype, shape)
        np.testing.assert_array_equal(read(written(values, **layout)).reshape(shape), values)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4"])
def test_read_values__differences_of_neighbors_are_summed(dtype: str) -> None:
    values = random_values(dtype, (37, 29, 5))
    for layout in ({}, {"tile": (16, 16)}, {"byteorder": ">"}):
        np.testing.assert_array_equal(read(written(values, compression="zlib", predictor=True, **layout)), values)


def test_read_values__separate_bands() -> None:
    values = random_values("u2", (5, 37, 29))
    found = read(written(values, planarconfig="separate", rowsperstrip=8))
    np.testing.assert_array_equal(found, values.transpose(1, 2, 0))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "lzma", "zstd"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_read_values__compressions_of_libtiff(compression: str, predictor: int) -> None:
    if compression == "zstd" and int(PIL.__version__.split(".")[0]) < 12:
        pytest.skip("older ones end in a crash where their libtiff cannot write it")
    values = random_values("u2", (50, 40))
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression=compression, tiffinfo={317: predictor})
    np.testing.assert_array_equal(read(file.getvalue())[:, :, 0], values)


def test_read_values__float_predictor_of_libtiff() -> None:
    values = random_values("f4", (50, 40))
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression="tiff_lzw", tiffinfo={317: 3})
    np.testing.assert_array_equal(read(file.getvalue())[:, :, 0], values)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_read_values__packed_bits(bits: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, (9, 7, 3)).astype(np.uint16)
    digits = (values.reshape(9, 21)[:, :, None] >> np.arange(bits)[::-1]) & 1
    packed = np.packbits(digits.reshape(9, -1).astype(np.uint8), axis=1).tobytes()  # a row begins at a byte
    shown = written(np.zeros((9, 7, 3), np.uint16))
    with tifffile.TiffFile(io.BytesIO(shown)) as file:
        tags = file.pages[0].tags  # type: ignore[union-attr]
        places = {name: tags[name].valueoffset for name in ("BitsPerSample", "StripByteCounts", "StripOffsets")}
        data = bytearray(shown)
        width = tags["StripByteCounts"].dtype.itemsize if hasattr(tags["StripByteCounts"].dtype, "itemsize") else 4
        start = file.pages[0].dataoffsets[0]
    data[places["BitsPerSample"] : places["BitsPerSample"] + 6] = np.array([bits] * 3, "<u2").tobytes()
    assert width == 4
    data[start:] = packed.ljust(9 * 7 * 3 * 2, b"\0")
    np.testing.assert_array_equal(read(bytes(data)), values)


def test_read_pages__all_of_a_stack() -> None:
    stack = random_values("u2", (4, 12, 10))
    data = written(stack, planarconfig=None, metadata=None)
    assert len(read_pages(io.BytesIO(data), most=10)) == 4
    np.testing.assert_array_equal(read(data, page=2)[:, :, 0], stack[2])


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_read_values__truncated_files_are_errors(compression: str | None) -> None:
    values = random_values("u2", (64, 64))
    file = io.BytesIO()
    names = {None: None, "zlib": "tiff_adobe_deflate", "lzw": "tiff_lzw"}
    Image.fromarray(values).save(file, "TIFF", compression=names[compression], tiffinfo={278: 64})
    whole = file.getvalue()
    start = read_pages(io.BytesIO(whole))[0].tags[273][0]
    with pytest.raises((ValueError, OSError, UserWarning)):
        read(whole[: start + 1000])


def test_read_values__too_many_values_are_refused_before_they_are_read() -> None:
    data = written(random_values("u2", (64, 64, 13)))
    with pytest.raises(ValueError, match="64 x 64 pixels of 13 bands"):
        read(data, most=50_000)


def test_read_pages__complex_numbers_and_loops() -> None:
    with pytest.raises(ValueError, match="format 6"):
        read_pages(io.BytesIO(written(np.zeros((8, 8), np.complex64))))
    data = bytearray(written(random_values("u2", (4, 12, 10)), planarconfig=None, metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        second, third = (file.pages[number].offset for number in (1, 2))
    count = int.from_bytes(data[third : third + 2], "little")
    data[third + 2 + 12 * count : third + 6 + 12 * count] = second.to_bytes(4, "little")  # the third leads back
    assert len(read_pages(io.BytesIO(bytes(data)), most=10)) == 3

"""The rows of docs/pictures.md, kind by kind: each file is made here, so what its pixels mean is known."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from picture_files import png_16, pnm_16
from PIL import Image

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.pictures import PictureRange
from contrastive_cli.data.cache import ImageSet, cache_directory
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.data.images import BadImage, decode

DOCS = Path(__file__).parents[2] / "docs" / "pictures.md"
SIDE = 24


def values_of(bands: int, *, low: int = 0, high: int = 4000) -> np.ndarray:
    """uint16 [24, 24, bands], every band another one."""
    values = np.random.default_rng(bands).integers(low, high, (SIDE, SIDE, bands), endpoint=True)
    values[0, :2] = np.array([low, high])[:, None]
    return values.astype(np.uint16)


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint((values.astype(np.float64) - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)


def decoded(
    path: Path, picture_range: PictureRange | None = None, *, channels: int = 3, bands: tuple[int, ...] | None = None
) -> np.ndarray:
    """[H, W, C]."""
    pixels = decode(path, size=None, channels=channels, picture_range=picture_range, bands=bands)
    return pixels.transpose(1, 2, 0)


def photograph_formats(folder: Path) -> None:
    image = Image.fromarray(np.repeat(np.repeat(values_of(3, high=255).astype(np.uint8)[:6, :6], 4, 0), 4, 1))
    for suffix, kind in {
        ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF",
        ".avif": "AVIF", "": "JPEG",
    }.items():  # fmt: skip
        image.save(folder / f"a{suffix}", kind, quality=100)
        off = np.abs(decoded(folder / f"a{suffix}", (0.0, 9.0)).astype(int) - np.asarray(image)).mean()
        assert off < 25, suffix


def png_8(folder: Path) -> None:
    color = values_of(3, high=255).astype(np.uint8)
    Image.fromarray(color).save(folder / "a.png")
    np.testing.assert_array_equal(decoded(folder / "a.png", (0.0, 9.0)), color)
    Image.new("LA", (4, 4), (100, 51)).save(folder / "b.png")
    assert set(decoded(folder / "b.png", (0.0, 9.0)).flat) == {224}


def png_16_gray(folder: Path) -> None:
    values = values_of(1)
    (folder / "a.png").write_bytes(png_16(values))
    np.testing.assert_array_equal(decoded(folder / "a.png", (0.0, 4095.0))[:, :, :1], scaled(values, 0, 4095))


def png_16_color(folder: Path) -> None:
    values = values_of(3)
    (folder / "a.png").write_bytes(png_16(values))
    np.testing.assert_array_equal(decoded(folder / "a.png", (0.0, 4095.0)), scaled(values, 0, 4095))


def png_16_transparent(folder: Path) -> None:
    for bands in (2, 4):
        values = values_of(bands)
        values[:, :, -1] = 13107  # a fifth
        (folder / "a.png").write_bytes(png_16(values))
        expected = np.rint(scaled(values[:, :, :-1], 0, 4095) * 0.2 + 255 * 0.8)
        np.testing.assert_allclose(decoded(folder / "a.png", (0.0, 4095.0))[:, :, : bands - 1], expected, atol=1)


def pnm(folder: Path) -> None:
    for bands, name in ((1, "a.pgm"), (3, "a.ppm")):
        values = values_of(bands)
        (folder / name).write_bytes(pnm_16(values, largest=4095))
        np.testing.assert_array_equal(decoded(folder / name, (0.0, 4095.0))[:, :, :bands], scaled(values, 0, 4095))


def tiff_8(folder: Path) -> None:
    color = values_of(3, high=255).astype(np.uint8)
    tifffile.imwrite(folder / "a.tif", color, photometric="rgb")
    np.testing.assert_array_equal(decoded(folder / "a.tif", (0.0, 9.0)), color)


def tiff_deep(folder: Path) -> None:
    for bands in (1, 3):
        values = values_of(bands, high=1000)
        tifffile.imwrite(folder / "a.tif", values.squeeze(), photometric="rgb" if bands == 3 else "minisblack")
        np.testing.assert_array_equal(decoded(folder / "a.tif", (0.0, 1023.0))[:, :, :bands], scaled(values, 0, 1023))
    tifffile.imwrite(folder / "w.tif", values_of(1)[:, :, 0], photometric="miniswhite")
    np.testing.assert_array_equal(
        decoded(folder / "w.tif", (0.0, 4095.0))[:, :, :1], 255 - scaled(values_of(1), 0, 4095)
    )


def tiff_signed(folder: Path) -> None:
    for dtype in ("i1", "i2", "i4"):
        values = (values_of(1, high=200).astype(int) - 100).astype(dtype)
        tifffile.imwrite(folder / "a.tif", values[:, :, 0])
        np.testing.assert_array_equal(decoded(folder / "a.tif", (-100.0, 100.0))[:, :, :1], scaled(values, -100, 100))


def tiff_float(folder: Path) -> None:
    for dtype in ("f2", "f4", "f8"):
        values = values_of(1, high=100).astype(dtype) / 8
        values[3, 3], values[4, 4], values[5, 5] = np.nan, -np.inf, np.inf
        tifffile.imwrite(folder / "a.tif", values[:, :, 0])
        expected = scaled(np.nan_to_num(values, nan=0.0, neginf=0.0, posinf=99.0), 0, 10)
        np.testing.assert_array_equal(decoded(folder / "a.tif", (0.0, 10.0))[:, :, :1], expected)


def tiff_four_bands(folder: Path) -> None:
    values = values_of(4, high=255).astype(np.uint8)
    values[:, :, 3] = 51
    for extra, taken in (([2], True), ([], True), ([0], False)):
        names = ["unassalpha" if number == 2 else "unspecified" for number in extra]
        tifffile.imwrite(folder / "a.tif", values, photometric="rgb", extrasamples=names or ["unspecified"])
        if not extra:
            drop_tag(folder / "a.tif", 338)
        found = open_folder(folder)
        colors = np.asarray(found.images[0]).transpose(1, 2, 0)
        expected = values[:, :, :3] * 0.2 + 255 * 0.8 if taken else values[:, :, :3]
        np.testing.assert_allclose(colors, expected, atol=1)
        said = "the fourth is taken for transparency" if taken else "the fourth left out"
        assert said in found.notes[0]


def tiff_many_bands(folder: Path) -> None:
    for bands, dtype in ((5, np.uint8), (13, np.uint8), (13, np.uint16)):
        high = 255 if dtype is np.uint8 else 4000
        values = values_of(bands, high=high).astype(dtype)
        tifffile.imwrite(folder / "a.tif", values, photometric="rgb", planarconfig="contig")
        found = open_folder(folder)
        np.testing.assert_array_equal(np.asarray(found.images[0]).transpose(1, 2, 0), scaled(values[:, :, :3], 0, high))
        assert f"a TIFF of {bands} bands: the first three are taken for red, green, blue" in found.notes[0]


def tiff_pages(folder: Path) -> None:
    values = values_of(4)
    tifffile.imwrite(folder / "a.tif", values.transpose(2, 0, 1), photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(decoded(folder / "a.tif", (0.0, 4095.0))[:, :, 0], scaled(values, 0, 4095)[:, :, 0])
    found = decoded(folder / "a.tif", (0.0, 4095.0), channels=2, bands=(3, 1))
    np.testing.assert_array_equal(found, scaled(values[:, :, [3, 1]], 0, 4095))


def heic(folder: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    image = Image.new("RGB", (32, 32), (200, 30, 60))
    image.save(folder / "a.heic", "HEIF", quality=90)
    np.testing.assert_allclose(decoded(folder / "a.heic", (0.0, 9.0))[16, 16], (200, 30, 60), atol=12)


ROWS: dict[str, Callable[[Path], None]] = {
    "JPEG (.jpg .jpeg .jpe .jfif), WebP, BMP, GIF, AVIF": photograph_formats,
    "PNG of 8 bits": png_8,
    "PNG of 16 bits, gray": png_16_gray,
    "PNG of 16 bits, color": png_16_color,
    "PNG of 16 bits with transparency": png_16_transparent,
    "PGM and PPM with a largest value above 255": pnm,
    "TIFF of 8 bits, gray or color": tiff_8,
    "TIFF of 10, 12, 14 or 16 bits, gray or color": tiff_deep,
    "TIFF of signed integers": tiff_signed,
    "TIFF of 16-, 32- or 64-bit floats": tiff_float,
    "TIFF of four bands": tiff_four_bands,
    "TIFF of five bands and more": tiff_many_bands,
    "TIFF of several pages": tiff_pages,
    "HEIC (.heic .heif)": heic,
}


def drop_tag(path: Path, tag: int) -> None:
    """Turn a tag into a private one that nobody reads; the order of tags stays."""
    data = path.read_bytes()
    place = data.index(np.array([tag], "<u2").tobytes() + b"\x03\0", 8)
    path.write_bytes(data[:place] + np.array([tag - 1 if tag == 338 else tag], "<u2").tobytes() + data[place + 2 :])


def open_folder(folder: Path, **more: object) -> ImageSet:
    return open_dataset("folder", split="all", data_dir=folder, size=SIDE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ROWS)
def test_pictures__row_of_the_page(kind: str, tmp_path: Path) -> None:
    ROWS[kind](tmp_path)


def test_pictures__the_page_has_these_rows() -> None:
    table = DOCS.read_text().split("## Kinds")[1].split("\n\n")[1]
    assert re.findall(r"^\| (.*?) \|", table, re.MULTILINE)[1:] == list(ROWS)


def test_open_dataset__ranges_of_the_page(tmp_path: Path) -> None:
    values = values_of(2, low=100, high=4000)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    assert open_folder(tmp_path).picture_range == (100.0, 4000.0)
    forced = open_folder(tmp_path, picture_range=(0.0, 65535.0))
    assert forced.picture_range == (0.0, 65535.0)
    assert forced.notes[0].startswith("warning: the pictures use 100 to 4000")
    pairs = ((0.0, 8000.0), (0.0, 4000.0))
    both = np.asarray(open_folder(tmp_path, picture_range=pairs, bands=(0, 1)).images[0])
    np.testing.assert_array_equal(both[0], scaled(values[:, :, 0], 0, 8000))
    np.testing.assert_array_equal(both[1], scaled(values[:, :, 1], 0, 4000))
    none = np.asarray(open_folder(tmp_path, picture_range=None, bands=(0,)).images[0])
    np.testing.assert_array_equal(none[0], scaled(values[:, :, 0], 0, 65535))


def test_open_dataset__the_range_is_part_of_the_cache_key_and_8_bits_have_none(tmp_path: Path) -> None:
    png = tmp_path / "a" / "a.png"
    png.parent.mkdir()
    png.write_bytes(png_16(values_of(1)))
    entries = set()
    for asked in ("auto", (0.0, 4000.0), (0.0, 8000.0), None):
        open_folder(png.parent, picture_range=asked)
        entries.add(len([entry for entry in cache_directory().iterdir() if entry.is_dir()]))
    assert entries == {1, 2, 3}  # auto measures 0 to 4000
    Image.fromarray(values_of(3, high=255).astype(np.uint8)).save(png)
    automatic, legacy = open_folder(png.parent), open_folder(png.parent, picture_range=None)
    assert automatic.fingerprint == legacy.fingerprint
    assert len([entry for entry in cache_directory().iterdir() if entry.is_dir()]) == 4


def test_open_dataset__a_file_that_lacks_a_band_is_left_out(tmp_path: Path) -> None:
    for number in range(9):
        tifffile.imwrite(tmp_path / f"{number}.tif", values_of(5), photometric="rgb", planarconfig="contig")
    Image.fromarray(values_of(3, high=255).astype(np.uint8)).save(tmp_path / "rgb.png")
    images = open_folder(tmp_path, bands=(4, 0, 0))
    assert images.images.shape == (9, 3, SIDE, SIDE)
    assert [bad.path for bad in images.bad_files] == ["rgb.png"]
    assert images.bad_files[0].reason == "there is no band 4, counted from 0: it has 3 bands"
    with pytest.raises(DataError, match="none of the 10 files"):
        open_folder(tmp_path, bands=(40,))
    with pytest.raises(UsageError, match="digits has 1"):
        open_dataset("digits", split="train", data_dir=None, size=32, bands=(0,))


def test_decode__bands_of_photographs_are_as_stored(tmp_path: Path) -> None:
    values = values_of(4, high=255).astype(np.uint8)
    Image.fromarray(values, "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(decoded(tmp_path / "a.png", channels=2, bands=(3, 1)), values[:, :, [3, 1]])
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    np.testing.assert_allclose(decoded(tmp_path / "c.jpg", channels=1, bands=(0,)), 255, atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode__deep_pictures_are_turned_upright_as_others(tmp_path: Path, orientation: int) -> None:
    values = values_of(1, high=250)[:, :16]
    for name, stored in (("deep.tif", values[:, :, 0]), ("plain.tif", values[:, :, 0].astype(np.uint8))):
        options = {"compression": "zlib"}  # Pillow turns the rows of uncompressed ones wrongly
        tifffile.imwrite(tmp_path / name, stored, extratags=[(274, 3, 1, orientation, True)], **options)  # type: ignore[arg-type]
    deep = decode(tmp_path / "deep.tif", size=None, channels=1, picture_range=(0.0, 255.0))
    np.testing.assert_array_equal(deep, decode(tmp_path / "plain.tif", size=None, channels=1))


def test_decode__many_bands_are_resized_as_colors_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 60, 5)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "five.tif", values, photometric="rgb", planarconfig="contig")
    Image.fromarray(values[:, :, 2:].copy()).save(tmp_path / "three.png")
    five = decode(tmp_path / "five.tif", size=16, channels=3, bands=(2, 3, 4))
    np.testing.assert_array_equal(five, decode(tmp_path / "three.png", size=16, channels=3))


def test_decode__heic_without_the_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 50)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadImage, match=r"a HEIC picture needs the extra: pip install 'contrastive-cli\[heic\]'"):
        decode(tmp_path / "a.heic", size=8, channels=3)


def test_decode__damaged_heic_and_avif(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    for brand in (b"heic", b"avif"):
        (tmp_path / "a").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + b"\0" * 50)
        with pytest.raises(BadImage):
            decode(tmp_path / "a", size=8, channels=3)

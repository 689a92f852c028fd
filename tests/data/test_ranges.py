"""One range for all pictures of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from picture_files import png_16, pnm_16
from PIL import Image

from contrastive_cli.data.images import decode
from contrastive_cli.data.ranges import describe, survey_files


def gray(low: int, high: int, *, seed: int = 0, dtype: type = np.uint16) -> np.ndarray:
    values = np.random.default_rng(seed).integers(low, high, (24, 24), endpoint=True)
    values.flat[:2] = low, high
    return values.astype(dtype)


def measure(*files: Path, bands: tuple[int, ...] | None = None) -> Any:
    return survey_files(files, asked="auto", bands=bands).picture_range


def save(file: Path, values: np.ndarray) -> Path:
    if file.suffix == ".tif":
        tifffile.imwrite(file, values, photometric="minisblack", planarconfig="contig" if values.ndim == 3 else None)
    else:
        Image.fromarray(values).save(file)
    return file


def test_survey_files__least_and_largest_over_all_files(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{low}.png", gray(low, high)) for low, high in ((300, 900), (200, 700), (400, 1023))]
    assert measure(*files) == (200.0, 1023.0)


def test_survey_files__equal_values_are_equal_in_every_picture(tmp_path: Path) -> None:
    one = save(tmp_path / "1.tif", gray(-1000, 400, dtype=np.int16))
    other = save(tmp_path / "2.tif", gray(0, 3000, dtype=np.int16))
    found = measure(one, other)
    assert found == (-1000.0, 3000.0)
    pixels = {file: decode(file, size=None, channels=1, picture_range=found)[0] for file in (one, other)}
    of_value: dict[int, set[int]] = {}
    for file, decoded in pixels.items():
        for value, level in zip(tifffile.imread(file).flat, decoded.flat, strict=True):
            of_value.setdefault(int(value), set()).add(int(level))
    assert all(len(levels) == 1 for levels in of_value.values())
    assert of_value[0] == {64}


def test_survey_files__eight_bits_have_none(tmp_path: Path) -> None:
    files = [save(tmp_path / f"a.{suffix}", gray(3, 200, dtype=np.uint8)) for suffix in ("png", "tif", "jpg", "bmp")]
    survey = survey_files(files, asked="auto", bands=None)
    assert survey.picture_range is None
    assert survey.notes == ()


def test_survey_files__what_files_declare_is_taken_if_they_use_it(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(pnm_16(gray(100, 3000)[:, :, None], largest=4095))
    (tmp_path / "b.png").write_bytes(png_16(gray(100, 3000)[:, :, None], significant_bits=12))
    (tmp_path / "c.png").write_bytes(png_16(gray(100, 130)[:, :, None], significant_bits=12))
    tifffile.imwrite(tmp_path / "d.tif", gray(100, 3000), extratags=[(281, 3, 1, 4095, True)])
    for name in ("a.pgm", "b.png", "d.tif"):
        assert measure(tmp_path / name) == (0.0, 4095.0)
    assert measure(tmp_path / "c.png") == (100.0, 130.0)  # a sixteenth of 4095 is 256
    assert measure(tmp_path / "a.pgm", save(tmp_path / "e.png", gray(50, 5000))) == (50.0, 5000.0)


def test_survey_files__marks_for_missing_pixels_do_not_widen_it(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(0.5, 8.0, (32, 32)).astype(np.float32)
    marked = depth.copy()
    marked[:8], marked[8, 0], marked[9, 0] = -9999.0, np.nan, np.inf
    assert measure(save(tmp_path / "a.tif", marked)) == (float(depth[8:].flat[1:].min()), float(depth[9:].max()))
    hot = gray(100, 4000)
    hot[3, 3] = 65535
    assert measure(save(tmp_path / "b.png", hot)) == (100.0, 4000.0)


def test_survey_files__a_mask_of_two_values_keeps_both(tmp_path: Path) -> None:
    mask = np.zeros((24, 24), np.uint16)
    mask[3, 3] = 60000
    assert measure(save(tmp_path / "a.png", mask)) == (0.0, 60000.0)


def test_survey_files__a_few_hot_pixels_do_not_take_all_levels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1000, 1500, (256, 256)).astype(np.uint16)
    values.flat[:20] = np.linspace(20_000, 65_000, 20)
    low, high = measure(save(tmp_path / "a.png", values))
    assert low == 1000
    assert 1500 <= high < 4000
    decoded = decode(tmp_path / "a.png", size=None, channels=1, picture_range=(low, high))
    assert len(np.unique(decoded)) > 32


def test_survey_files__nodata_of_gdal(tmp_path: Path) -> None:
    values = gray(0, 100, dtype=np.int16)
    values[0] = -32768
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, "-32768", True)])
    low, high = measure(tmp_path / "a.tif")
    assert (low, high) == (float(values[1:].min()), float(values[1:].max()))
    decoded = decode(tmp_path / "a.tif", size=None, channels=1, picture_range=(low, high))
    assert decoded[0, 0].max() == 0


def test_survey_files__bands_have_ranges_of_their_own_and_colors_one(tmp_path: Path) -> None:
    values = np.stack([gray(0, 100 * (band + 1), seed=band) for band in range(6)], axis=-1)
    save(tmp_path / "a.tif", values)
    assert measure(tmp_path / "a.tif", bands=(5, 0, 1, 2)) == ((0, 600), (0, 100), (0, 200), (0, 300))
    assert measure(tmp_path / "a.tif", bands=(5, 0, 1)) == (0.0, 600.0)
    assert measure(tmp_path / "a.tif") == (0.0, 300.0)  # the first three are the colors


def test_survey_files__a_forced_range_that_is_not_used_is_said(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", gray(500, 4000))
    survey = survey_files([file], asked=(0.0, 65535.0), bands=None)
    assert survey.picture_range == (0.0, 65535.0)
    assert survey.notes[0].startswith("warning: the pictures use 500 to 4000 of dataset.range 0 to 65535")
    assert survey_files([file], asked=(0.0, 8000.0), bands=None).notes == ()


def test_survey_files__what_becomes_of_a_fourth_band_is_said_once(tmp_path: Path) -> None:
    values = np.full((8, 8, 4), 99, np.uint8)
    for number in range(3):
        tifffile.imwrite(tmp_path / f"{number}.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "n.tif", values, photometric="rgb", extrasamples=["unspecified"])
    Image.fromarray(values, "RGBA").save(tmp_path / "a.png")  # a PNG's fourth is transparency for certain
    notes = survey_files(sorted(tmp_path.iterdir()), asked="auto", bands=None).notes
    assert notes == (
        "a TIFF of 4 bands: the first three are taken for red, green, blue, the fourth left out; "
        "--set 'dataset.bands=[0, 1, 2, 3]' takes them all",
        "3 TIFFs of 4 bands: the fourth is taken for transparency; --set 'dataset.bands=[0, 1, 2, 3]' takes them all",
    )
    assert survey_files(sorted(tmp_path.iterdir()), asked="auto", bands=(0, 1, 2, 3)).notes == ()


def test_survey_files__damaged_files_are_left_to_decoding(tmp_path: Path) -> None:
    good = save(tmp_path / "a.png", gray(0, 1000))
    (tmp_path / "b.png").write_bytes(good.read_bytes()[:200])
    (tmp_path / "c.tif").write_bytes(b"II*\0" + b"\xff" * 50)
    (tmp_path / "d.pgm").write_bytes(b"P5 9999999 99999 65535 ")
    assert measure(*sorted(tmp_path.iterdir()), tmp_path / "absent.png") == (0.0, 1000.0)
    assert measure(tmp_path / "b.png") is None


def test_describe__one_range_and_one_a_band() -> None:
    assert describe((0.0, 4095.0)) == "0 becomes black, 4095 white"
    assert describe(((0.0, 1.0), (2.0, 3.5))) == "each band by its own range: 0 to 1, 2 to 3.5"

"""What is seen of one picture: known answers on drawn pictures, and files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from contrastive_cli.data.inspection import LOOKED_SIDE, look_at_arrays, look_at_files, look_at_pixels
from contrastive_cli.data.looks import Look
from contrastive_cli.data.sources import BadFile


def textured(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Smooth random color with edges, uint8 [H, W, 3]."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def look_of(path: Path) -> Look:
    (found,) = look_at_files([path])
    assert isinstance(found, Look), found
    return found


def test_look_at_pixels__one_color() -> None:
    found = look_at_pixels(np.full((3, 20, 30), 51, np.uint8))
    assert (found.width, found.height) == (30, 20)
    assert found.mean == pytest.approx((0.2, 0.2, 0.2))
    assert (found.contrast, found.entropy, found.sharpness, found.color) == pytest.approx((0, 0, 0, 0), abs=1e-6)
    assert found.dark_end == found.light_end == pytest.approx(0.2)


def test_look_at_pixels__halves_of_black_and_white() -> None:
    pixels = np.zeros((1, 16, 16), np.uint8)
    pixels[:, :, 8:] = 255
    found = look_at_pixels(pixels)
    assert found.mean == pytest.approx((0.5, 0.5, 0.5))
    assert found.contrast == pytest.approx(0.5)
    assert found.entropy == pytest.approx(1.0)
    assert (found.dark_end, found.light_end) == (0.0, 1.0)
    assert (found.gray == pixels[0]).all()
    # Of 14 x 14 inner pixels 28 have a second difference of 1; the sharpest twentieth are 9 of them.
    assert found.sharpness == pytest.approx(1 / 0.5)


def test_look_at_pixels__moments_are_those_of_numpy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    found = look_at_pixels(pixels)
    values = pixels.reshape(3, -1) / 255
    assert found.mean == pytest.approx(tuple(values.mean(axis=1)))
    assert found.square == pytest.approx(tuple((values**2).mean(axis=1)))
    assert found.color == pytest.approx((values.max(axis=0) - values.min(axis=0)).mean())


def test_look_at_pixels__blur_lowers_sharpness_and_brightness_does_not() -> None:
    image = Image.fromarray(textured(96, 96))
    sharp = look_at_pixels(np.asarray(image).transpose(2, 0, 1))
    soft = look_at_pixels(np.asarray(image.filter(ImageFilter.GaussianBlur(3))).transpose(2, 0, 1))
    dim = look_at_pixels((np.asarray(image) // 2).transpose(2, 0, 1))
    assert soft.sharpness < 0.3 * sharp.sharpness
    assert dim.sharpness == pytest.approx(sharp.sharpness, rel=0.05)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "gif", "tif"])
def test_look_at_files__a_large_picture_of_every_kind_keeps_its_size(tmp_path: Path, suffix: str) -> None:
    pixels = textured(450, 600)
    Image.fromarray(pixels).save(tmp_path / f"picture.{suffix}")
    found = look_of(tmp_path / f"picture.{suffix}")
    assert (found.width, found.height) == (600, 450)
    assert found.mean == pytest.approx(tuple(pixels.reshape(-1, 3).mean(axis=0) / 255), abs=0.02)


def test_look_at_files__shrunk_by_the_decoder_or_not_looks_alike(tmp_path: Path) -> None:
    Image.fromarray(textured(800, 1200)).save(tmp_path / "large.jpg", quality=95)
    Image.fromarray(textured(800, 1200)).save(tmp_path / "large.png")
    shrunk, whole = look_of(tmp_path / "large.jpg"), look_of(tmp_path / "large.png")
    assert (shrunk.width, shrunk.height) == (1200, 800)
    assert np.abs(shrunk.gray.astype(int) - whole.gray).mean() < 2
    assert shrunk.contrast == pytest.approx(whole.contrast, rel=0.02)


@pytest.mark.parametrize(("height", "width"), [(300, 500), (400, 400)])
def test_look_at_files__turned_by_exif(tmp_path: Path, height: int, width: int) -> None:
    image = Image.fromarray(textured(height, width))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.jpg", quality=95)
    turned, upright = look_of(tmp_path / "turned.jpg"), look_of(tmp_path / "upright.jpg")
    assert (turned.width, turned.height) == (upright.width, upright.height) == (height, width)
    assert np.abs(turned.gray.astype(int) - upright.gray).mean() < 2


def test_look_at_files__gray_and_color(tmp_path: Path) -> None:
    Image.fromarray(textured(64, 64)).save(tmp_path / "color.jpg")
    Image.fromarray(textured(64, 64)).convert("L").save(tmp_path / "gray.jpg")
    Image.fromarray(textured(64, 64)).convert("L").convert("RGB").save(tmp_path / "gray-in-color.jpg")
    assert look_of(tmp_path / "color.jpg").color > 0.1
    assert look_of(tmp_path / "gray.jpg").color == 0
    assert look_of(tmp_path / "gray-in-color.jpg").color < 0.01


def test_look_at_files__bad_ones_in_their_places(tmp_path: Path, time_limit: None) -> None:
    import os

    for number in range(200):
        Image.fromarray(textured(10, 12 + number, seed=number)).save(tmp_path / f"{number:03d}.png")
    (tmp_path / "050.png").write_bytes((tmp_path / "050.png").read_bytes()[:60])
    (tmp_path / "070.png").write_text("no picture")
    (tmp_path / "090.png").unlink()
    (tmp_path / "110.png").unlink()
    os.mkfifo(tmp_path / "110.png")
    calls: list[tuple[int, int]] = []
    files = [tmp_path / f"{number:03d}.png" for number in range(200)]
    found = list(look_at_files(files, progress=lambda done, total: calls.append((done, total))))
    bad = [number for number, each in enumerate(found) if isinstance(each, BadFile)]
    assert bad == [50, 70, 90, 110]
    assert [each.width for each in found if isinstance(each, Look)] == [12 + n for n in range(200) if n not in bad]
    assert calls[-1] == (200, 200)
    assert LOOKED_SIDE > 10


def test_look_at_arrays__in_order() -> None:
    def read(index: int) -> np.ndarray:
        return np.full((1, 4, 4), index, np.uint8)

    found = list(look_at_arrays([str(number) for number in range(150)], read))
    assert [round(255 * each.mean[0]) for each in found if isinstance(each, Look)] == list(range(150))

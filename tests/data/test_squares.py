"""Squares by the framing of an encoder: the very pixels that torchvision and timm make of the same picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from contrastive_cli.core.framing import Framing
from contrastive_cli.data.images import decode
from contrastive_cli.data.squares import Square, resize_array

SIZES = [(640, 480), (480, 640), (900, 1200), (501, 333), (224, 224), (256, 300), (40, 31), (97, 20)]
MODES = {
    "nearest": transforms.InterpolationMode.NEAREST,
    "bilinear": transforms.InterpolationMode.BILINEAR,
    "bicubic": transforms.InterpolationMode.BICUBIC,
    "lanczos": transforms.InterpolationMode.LANCZOS,
}


def photo(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Soft shapes with noise, so that edges and fine grain are both there."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8)).resize((width, height))
    grain = random.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse).astype(int) + grain, 0, 255).astype(np.uint8))


def expected(image: Image.Image, *, size: int, framing: Framing) -> Any:
    """torchvision's Resize and CenterCrop of the whole picture."""
    resize = framing.resize if framing.rule == "shorter" else (framing.resize, framing.resize)
    cut = transforms.Compose(
        [transforms.Resize(resize, interpolation=MODES[framing.interpolation]), transforms.CenterCrop(size)]
    )
    return np.asarray(cut(image)).transpose(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_square__equals_torchvision(tmp_path: Path, size: tuple[int, int], interpolation: Any) -> None:
    photo(*size).save(tmp_path / "a.png")
    for framing in (
        Framing(resize=256, interpolation=interpolation),
        Framing(resize=224, interpolation=interpolation),
        Framing(resize=235, rule="squash", interpolation=interpolation),
    ):
        found = decode(tmp_path / "a.png", size=224, channels=3, framing=framing)
        np.testing.assert_array_equal(found, expected(Image.open(tmp_path / "a.png"), size=224, framing=framing))


def test_square__of_a_large_jpeg_is_not_drafted(tmp_path: Path) -> None:
    photo(1200, 900).save(tmp_path / "a.jpg", quality=90)
    framing = Framing(resize=72, interpolation="bicubic")
    found = decode(tmp_path / "a.jpg", size=64, channels=3, framing=framing)
    np.testing.assert_array_equal(found, expected(Image.open(tmp_path / "a.jpg"), size=64, framing=framing))
    usual = decode(tmp_path / "a.jpg", size=64, channels=3)
    assert np.abs(usual.astype(int) - found).max() > 1  # the rule of this package shrinks while it decodes


def test_square__of_a_strip_is_that_of_the_whole_within_one_level() -> None:
    strip = photo(900, 20)
    framing = Framing(resize=32, interpolation="bicubic")
    found = Square(size=28, channels=3, framing=framing).of(strip)
    assert np.abs(found.astype(int) - expected(strip, size=28, framing=framing)).max() <= 1


@pytest.mark.usefixtures("time_limit")
def test_square__of_a_very_long_strip_needs_little_memory() -> None:
    strip = Image.new("RGB", (60_000, 2), "red")  # resized as a whole it would be 24 GB
    found = Square(size=224, channels=3, framing=Framing(resize=256)).of(strip)
    assert found.shape == (3, 224, 224)
    assert (found[0] == 255).all()


def test_square__gray_stands_for_all_colors(tmp_path: Path) -> None:
    photo(70, 50).convert("L").save(tmp_path / "gray.png")
    found = decode(tmp_path / "gray.png", size=32, channels=3, framing=Framing(resize=36))
    assert (found == found[0]).all()


def test_resize_array__by_a_framing_cuts_even_at_the_same_size() -> None:
    pixels = np.asarray(photo(32, 32)).transpose(2, 0, 1)
    found = resize_array(pixels, size=32, framing=Framing(resize=40, interpolation="bilinear"))
    wanted = expected(photo(32, 32), size=32, framing=Framing(resize=40, interpolation="bilinear"))
    np.testing.assert_array_equal(found, wanted)


def test_framing__scaled_shows_the_same_part() -> None:
    framing = Framing(resize=256)
    assert framing.scaled(224, to=224) is framing
    assert framing.scaled(224, to=448).resize == 512
    assert framing.scaled(224, to=32).resize == 36
    assert framing.crop_fraction(224) == 0.875

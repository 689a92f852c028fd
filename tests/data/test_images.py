"""Every file here is made by the test, so what the right pixels are is known."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.data.images import BadImage, Channels, decode
from contrastive_cli.data.quiet_decoders import quiet_decoders
from contrastive_cli.data.squares import resize_array

ROOT = Path(__file__).parents[2]
FORMAT_OF = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".ppm": "PPM",
}


def scene(width: int = 32, height: int = 32) -> Image.Image:
    """A picture without any symmetry."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = 255 * columns / (width - 1)
    green = 255 * rows / (height - 1)
    blue = 255 * (rows * columns) / ((width - 1) * (height - 1))
    return Image.fromarray(np.stack([red, green, blue], axis=-1).round().astype(np.uint8))


def as_chw(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def outcome_of(path: Path) -> np.ndarray | str:
    """The pixels, or the reason why there are none."""
    try:
        return decode(path, size=16, channels=3)
    except BadImage as error:
        return error.reason


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_decode__lossless_formats_give_back_the_pixels(tmp_path: Path, suffix: str) -> None:
    image = scene(20, 12)
    image.save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(decode(tmp_path / f"a{suffix}", size=None, channels=3), as_chw(image))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif"])
def test_decode__lossy_formats_are_near(tmp_path: Path, suffix: str) -> None:
    image = scene()
    image.save(tmp_path / f"a{suffix}", quality=95)
    decoded = decode(tmp_path / f"a{suffix}", size=None, channels=3)
    assert np.abs(decoded.astype(int) - as_chw(image)).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode__exif_orientations_equal_the_upright_one(tmp_path: Path, orientation: int) -> None:
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    upright = scene(24, 16)
    stored = upright
    for transpose in undo.get(orientation, []):
        stored = stored.transpose(transpose)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", size=None, channels=3), as_chw(upright))


def test_decode__16_bit_ramp_keeps_256_levels(tmp_path: Path) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    decoded = decode(tmp_path / "a.png", size=None, channels=1)
    assert len(np.unique(decoded)) == 256
    np.testing.assert_array_equal(decoded[0], np.rint(ramp / 257.0))


def test_decode__float_and_wide_integers_are_scaled_by_their_range(tmp_path: Path) -> None:
    values = np.linspace(-3.0, 5.0, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "f.tif")
    Image.fromarray((values * 1e6).astype(np.int32)).save(tmp_path / "i.tif")
    for name in ("f.tif", "i.tif"):
        np.testing.assert_array_equal(decode(tmp_path / name, size=None, channels=1).ravel(), np.arange(256))


def test_decode__float_without_finite_values_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif", size=None, channels=3).max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_decode__alpha_is_composited_on_white(tmp_path: Path, mode: str) -> None:
    pixel = (100, 100, 100, 51) if mode == "RGBA" else (100, 51)  # a fifth of gray 100, four fifths of white
    Image.new(mode, (4, 4), pixel).save(tmp_path / "a.png")
    np.testing.assert_allclose(decode(tmp_path / "a.png", size=None, channels=3), 0.2 * 100 + 0.8 * 255, atol=1)


def test_decode__transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 1), 1)
    image.save(tmp_path / "a.png", transparency=0)
    decoded = decode(tmp_path / "a.png", size=None, channels=3)
    assert decoded[:, 0, 0].tolist() == [255, 255, 255]
    assert decoded[:, 1, 1].tolist() == [0, 0, 255]


def test_decode__transparent_grey_level_is_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[10, 20]], dtype=np.uint8)).save(tmp_path / "a.png", transparency=10)
    assert decode(tmp_path / "a.png", size=None, channels=1).tolist() == [[[255, 20]]]


def test_decode__palette_one_bit_and_cmyk(tmp_path: Path) -> None:
    Image.new("1", (4, 4), 1).save(tmp_path / "one.png")
    assert decode(tmp_path / "one.png", size=None, channels=3).min() == 255
    scene().quantize(256).save(tmp_path / "palette.png")
    assert np.abs(decode(tmp_path / "palette.png", size=None, channels=3).astype(int) - as_chw(scene())).mean() < 12
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    red = decode(tmp_path / "cmyk.jpg", size=None, channels=3).mean(axis=(1, 2))
    np.testing.assert_allclose(red, [255, 0, 0], atol=3)


def test_decode__animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    decoded = decode(tmp_path / "a.gif", size=8, channels=3)
    assert decoded[:, 4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_decode__square_equals_resizing_then_cropping(tmp_path: Path, channels: Channels) -> None:
    image = scene(60, 20).convert("L" if channels == 1 else "RGB")
    for suffix, pixels in ((".png", image), ("_tall.png", image.transpose(Image.Transpose.TRANSPOSE))):
        pixels.save(tmp_path / f"a{suffix}")
        for size in (5, 10, 20, 40):
            scaled = pixels.resize((pixels.width * size // 20, pixels.height * size // 20), Image.Resampling.BILINEAR)
            left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
            expected = np.asarray(scaled.crop((left, top, left + size, top + size)))
            expected = expected[None] if channels == 1 else expected.transpose(2, 0, 1)
            decoded = decode(tmp_path / f"a{suffix}", size=size, channels=channels)
            assert decoded.dtype == np.uint8
            np.testing.assert_allclose(decoded.astype(int), expected, atol=1)


def test_decode__shrinking_averages(tmp_path: Path) -> None:
    checkers = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checkers).save(tmp_path / "a.png")
    np.testing.assert_allclose(decode(tmp_path / "a.png", size=8, channels=1), 127.5, atol=3)


def test_decode__big_jpeg_through_draft_is_near_the_full_decode(tmp_path: Path) -> None:
    image = scene(800, 600)
    image.save(tmp_path / "a.jpg", quality=95)
    image.save(tmp_path / "a.png")
    drafted = decode(tmp_path / "a.jpg", size=32, channels=3).astype(int)
    assert np.abs(drafted - decode(tmp_path / "a.png", size=32, channels=3)).mean() < 2


@pytest.mark.parametrize("suffix", list(FORMAT_OF))
@pytest.mark.parametrize("sixteenths", range(16))
def test_decode__truncated_file_is_bad_or_whole(tmp_path: Path, suffix: str, sixteenths: int) -> None:
    scene(64, 64).save(tmp_path / f"whole{suffix}")
    content = (tmp_path / f"whole{suffix}").read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: len(content) * sixteenths // 16])
    outcome = outcome_of(cut)
    if isinstance(outcome, str):
        assert outcome
        assert "\n" not in outcome
    else:  # only trailing bytes that carry no pixels may be missing
        np.testing.assert_array_equal(outcome, decode(tmp_path / f"whole{suffix}", size=16, channels=3))


@pytest.mark.parametrize("suffix", list(FORMAT_OF))
def test_decode__damaged_bytes_raise_nothing_else(tmp_path: Path, suffix: str) -> None:
    scene(24, 24).save(tmp_path / f"a{suffix}")
    content = np.frombuffer((tmp_path / f"a{suffix}").read_bytes(), dtype=np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = content.copy()
        damaged[generator.integers(0, min(len(content), 200), size=4)] = generator.integers(0, 256, size=4)
        (tmp_path / "b").write_bytes(damaged.tobytes())
        with quiet_decoders():
            outcome = outcome_of(tmp_path / "b")
        assert outcome if isinstance(outcome, str) else outcome.shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0", "not an image"),
        (b"just text", "not an image"),
        (b"%PDF-1.4", "not an image"),
    ],
)
def test_decode__what_is_no_image(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadImage, match=reason):
        decode(tmp_path / "a.jpg", size=8, channels=3)


def test_decode__format_outside_the_list_is_refused(tmp_path: Path) -> None:
    scene().save(tmp_path / "a.jpg", format="PCX")
    with pytest.raises(BadImage, match="known format"):
        decode(tmp_path / "a.jpg", size=8, channels=3)


def test_decode__decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (9_500, 50_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        content = (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        )
        (tmp_path / "bomb.png").write_bytes(content)
        with quiet_decoders(), pytest.raises(BadImage, match="limit of"):
            decode(tmp_path / "bomb.png", size=8, channels=3)


def test_decode__max_pixels_is_the_largest_allowed(tmp_path: Path) -> None:
    scene(10, 10).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", size=4, channels=3, max_pixels=100).shape == (3, 4, 4)
    with pytest.raises(BadImage, match="limit of 99"):
        decode(tmp_path / "a.png", size=4, channels=3, max_pixels=99)


def test_decode__fifo_folder_and_absent_file_do_not_hang(tmp_path: Path, time_limit: None) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", tmp_path):
        with pytest.raises(BadImage, match="not a regular file"):
            decode(path, size=8, channels=3)
    with pytest.raises(BadImage, match="No such file"):
        decode(tmp_path / "absent.png", size=8, channels=3)


def test_decode__name_with_surrogates(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.png")
    scene().save(tmp_path / "a.png")
    path.write_bytes((tmp_path / "a.png").read_bytes())
    assert decode(path, size=8, channels=3).shape == (3, 8, 8)


def test_quiet_decoders__c_noise_is_dropped_and_python_stderr_kept(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr
    with quiet_decoders():
        os.write(2, b"noise of a C library\n")
    os.write(2, b"after\n")
    assert sys.stderr is before
    assert capfd.readouterr().err == "after\n"


def test_quiet_decoders__progress_on_stderr_reaches_the_terminal() -> None:
    code = (
        "import os, sys\nfrom contrastive_cli.data.quiet_decoders import quiet_decoders\n"
        "with quiet_decoders():\n    os.write(2, b'noise ')\n    print('progress', file=sys.stderr)\n"
        "print('after', file=sys.stderr)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stderr == "progress\nafter\n"


def test_resize_array__equals_decoding_the_same_pixels(tmp_path: Path) -> None:
    image = scene(40, 24)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(resize_array(as_chw(image), size=12), decode(tmp_path / "a.png", size=12, channels=3))
    assert resize_array(as_chw(image)[:1], size=12).shape == (1, 12, 12)


def test_resize_array__right_size_is_unchanged() -> None:
    pixels = as_chw(scene())
    assert resize_array(pixels, size=32) is pixels

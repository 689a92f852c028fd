"""What tells the cache that files are others, and images apart from others: nothing that counts is left out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.data.cache import ImageSet, open_cached
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.data.images import decode
from contrastive_cli.data.sources import Samples, Source

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 4, 4), dtype=np.uint8)
SAMPLES = Samples(
    labels=np.array([0, 0, 1, 1]), classes=("a", "b"), paths=("0", "1", "2", "3"), read=lambda index: PIXELS[index]
)


def opened(samples: Samples, *, identity: str) -> ImageSet:
    return open_cached(
        Source(name="made", split="train", size=4, channels=3, identity=(identity,), load=lambda: samples)
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLR_CACHE", str(tmp_path / "cache"))


def test_open_dataset__a_file_of_another_size_and_the_old_time(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.full((8, 8, 3), 100 * number, np.uint8)).save(folder / f"{number}.png")
    before = open_dataset("folder", split="all", data_dir=folder, size=8)
    status = (folder / "0.png").stat()
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "0.png")
    assert (folder / "0.png").stat().st_size != status.st_size
    os.utime(folder / "0.png", ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy with its times does
    after = open_dataset("folder", split="all", data_dir=folder, size=8)
    np.testing.assert_array_equal(after.images[0], noise.transpose(2, 0, 1))
    assert after.fingerprint != before.fingerprint


def test_open_dataset__a_file_of_another_time_and_the_old_size(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.full((8, 8, 3), 100 * number, np.uint8)).save(folder / f"{number}.bmp")
    open_dataset("folder", split="all", data_dir=folder, size=8)
    status = (folder / "0.bmp").stat()
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(folder / "0.bmp")
    assert (folder / "0.bmp").stat().st_size == status.st_size
    os.utime(folder / "0.bmp", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = open_dataset("folder", split="all", data_dir=folder, size=8)
    assert (after.images[0] == 7).all()


def test_fingerprint__is_of_pixels_labels_and_paths() -> None:
    whole = opened(SAMPLES, identity="whole").fingerprint
    assert opened(replace(SAMPLES), identity="again").fingerprint == whole
    others = {
        "labels": replace(SAMPLES, labels=np.array([0, 1, 0, 1])),
        "paths": replace(SAMPLES, paths=("0", "1", "3", "2")),
        "pixels": replace(SAMPLES, read=lambda index: PIXELS[index] ^ np.uint8(index == 2)),
        "order": replace(SAMPLES, read=lambda index: PIXELS[3 - index]),
    }
    found = {name: opened(samples, identity=name).fingerprint for name, samples in others.items()}
    assert len({whole, *found.values()}) == 1 + len(others)


def test_open_cached__labels_stay_with_their_images() -> None:
    """A bad file takes its own label and path with it."""
    from contrastive_cli.data.images import BadImage

    def read(index: int) -> Any:
        if index == 1:
            raise BadImage(Path("1"), "broken")
        return PIXELS[index]

    images = opened(replace(SAMPLES, read=read), identity="bad")
    assert images.labels.tolist() == [0, 1, 1]
    assert images.paths == ("0", "2", "3")
    np.testing.assert_array_equal(images.images, PIXELS[[0, 2, 3]])


@pytest.mark.parametrize("change", ["split", "size", "channels", "name", "identity"])
def test_open_cached__what_is_asked_for_is_part_of_the_entry(change: str) -> None:
    seen: list[str] = []

    def load() -> Samples:
        seen.append(change)
        return SAMPLES

    source = Source(name="made", split="train", size=4, channels=3, identity=("x",), load=load)
    for _ in range(2):
        open_cached(source)
    assert len(seen) == 1
    if change in ("size", "channels"):  # the samples would not fit, so only the entry is asked for
        from contrastive_cli.data.cache import source_key

        other = replace(source, size=8) if change == "size" else replace(source, channels=1)
        assert source_key(other) != source_key(source)
        return
    values: dict[str, Any] = {"split": "test", "name": "other", "identity": ("y",)}
    open_cached(replace(source, **{change: values[change]}))
    assert len(seen) == 2


def test_decode__sixteen_bits_are_scaled_by_their_whole_range(tmp_path: Path) -> None:
    values = np.linspace(1000, 2000, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = decode(tmp_path / "deep.png", size=None, channels=1)[0]
    np.testing.assert_array_equal(found, np.rint(values * (255 / 65535)))
    assert found.max() < 10  # by its own range it would be 255


def test_decode__floats_are_scaled_by_their_own_range(tmp_path: Path) -> None:
    values = np.linspace(-1, 3, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "deep.tiff")
    found = decode(tmp_path / "deep.tiff", size=None, channels=1)[0]
    assert (found.min(), found.max()) == (0, 255)

"""What the documents suppose a reader to have: `photos/`, and in `data/` tiny CIFAR-10 and LFW as published; shards."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

PLACES, PHOTOS_EACH = ("beach", "city", "forest"), 12
PEOPLE, PICTURES_EACH = ("Ada", *(f"Person_{number}" for number in range(59))), 5


def make_photos(folder: Path) -> None:
    """photos/PLACE/NUMBER.jpg: noise about a color of the place."""
    noise = np.random.default_rng(0)
    for color, place in enumerate(PLACES):
        for number in range(PHOTOS_EACH):
            _save(folder / "photos" / place / f"{number}.jpg", noise.integers(60 * color, 60 * color + 90, (48, 64, 3)))


def make_faces(folder: Path) -> None:
    """data/lfw/NAME/NAME_0001.jpg and on."""
    noise = np.random.default_rng(1)
    for name in PEOPLE:
        face = noise.integers(0, 200, (12, 12, 3)).repeat(4, axis=0).repeat(4, axis=1)
        for number in range(1, PICTURES_EACH + 1):
            pixels = face + noise.integers(0, 50, face.shape)
            _save(folder / "data" / "lfw" / name / f"{name}_{number:04d}.jpg", pixels)


def make_cifar(folder: Path) -> None:
    """data/cifar-10-batches-py: five files of 60 training images and one of 60 test images."""
    noise = np.random.default_rng(2)
    root = folder / "data" / "cifar-10-batches-py"
    root.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        labels = [index % 10 for index in range(60)]
        pixels = noise.integers(0, 100, (60, 3072)) + 15 * np.array(labels)[:, None]
        batch = {b"data": pixels.astype(np.uint8), b"labels": labels, b"batch_label": name.encode()}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))


def make_tar(folder: Path) -> None:
    """shards/train-000.tar and test-000.tar."""
    (folder / "shards").mkdir()
    for name, pictures in _pictures_of_splits():
        with tarfile.open(folder / "shards" / f"{name}-000.tar", "w") as archive:
            for number, (label, picture) in enumerate(pictures):
                for suffix, content in (("png", picture), ("cls", label.encode())):
                    member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def make_parquet(folder: Path) -> None:
    """parquet/train-00000-of-00001.parquet and the same of test."""
    import pyarrow
    import pyarrow.parquet

    (folder / "parquet").mkdir()
    for name, pictures in _pictures_of_splits():
        columns = {
            "image": [{"bytes": one, "path": None} for _, one in pictures],
            "label": [one for one, _ in pictures],
        }
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "parquet" / f"{name}-00000-of-00001.parquet")


def _pictures_of_splits() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    noise = np.random.default_rng(3)
    for name, count in (("train", 36), ("test", 12)):
        pictures = []
        for number in range(count):
            buffer = io.BytesIO()
            low = 60 * (number % 3)
            Image.fromarray(noise.integers(low, low + 90, (32, 32, 3)).astype(np.uint8)).save(buffer, "PNG")
            pictures.append((PLACES[number % 3], buffer.getvalue()))
        yield name, pictures


def _save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file, quality=90)

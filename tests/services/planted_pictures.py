"""Folders of drawn pictures with planted faults; the pictures of a class share a pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ants", "bees", "cats")


def drawn(number: int, *, kind: int, side: int = 40) -> Image.Image:
    """A picture of its own: colored blobs, over the stripes of its class."""
    random = np.random.default_rng([number, kind])
    coarse = random.integers(30, 226, (5, 5, 3), np.uint8)
    blobs = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)).astype(float)
    rows, columns = np.mgrid[:side, :side]
    along = (rows, columns, rows + columns)[kind]
    stripes = 40 * np.sign(np.sin(along * 2 * np.pi / 10 + 0.1))
    fine = random.normal(0, 8, (side, side, 1))
    return Image.fromarray((blobs * 0.5 + 64 + stripes[..., None] + fine).clip(0, 255).astype(np.uint8))


def make_clean(root: Path, *, train: int = 20, test: int = 6, side: int = 40) -> Path:
    """`root`/train and test with three classes of different pictures each."""
    number = 0
    for split, count in (("train", train), ("test", test)):
        for kind, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for _ in range(count):
                drawn(number, kind=kind, side=side).save(folder / f"{number:04d}.png")
                number += 1
    return root

"""Images of a dataset as PNG files, to try the commands that take files."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np

from contrastive_cli.core.files import write_atomically
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.opening import open_images


def save_samples(dataset: DatasetConfig, folder: Path, *, split: str, count: int) -> list[Path]:
    """Save the first `count` images of a split, spread evenly over the classes, as `<class>-<index>.png`."""
    from PIL import Image

    images = open_images(dataset, split=split)
    rank = np.zeros(images.num_samples, np.int64)  # how many of its class come before each image
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        rank[members] = np.arange(len(members))
    files = []
    for index in np.lexsort((images.labels, rank))[:count]:
        label = int(images.labels[index])
        word = images.classes[label] if label >= 0 else "image"
        pixels = np.asarray(images.images[index])
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        file = folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', word)}-{index:05d}.png"
        write_atomically(file, buffer.getvalue())
        files.append(file)
    return files

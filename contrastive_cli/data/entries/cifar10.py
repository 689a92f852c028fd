"""CIFAR-10. Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

import functools
from pathlib import Path

from contrastive_cli.data.archives import Archive, read_cifar
from contrastive_cli.data.published import published


def fetch(data_dir: Path) -> None:
    """Download and unpack it below a folder."""
    from torchvision import datasets

    datasets.CIFAR10(data_dir, download=True)


DATASET = published(
    name="cifar10",
    help="60,000 color images of 10 kinds of things, 32 px",
    size=32,
    recipe="simclr-small",
    archive=Archive(
        folders=("cifar-10-batches-py", "."),
        files={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
        read=functools.partial(read_cifar, label_key="labels", num_classes=10),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    fetch=fetch,
)

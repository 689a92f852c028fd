"""Fashion-MNIST. Xiao, Rasul, Vollgraf 2017, https://arxiv.org/abs/1708.07747."""

from __future__ import annotations

import functools
from pathlib import Path

from contrastive_cli.data.archives import Archive, read_idx
from contrastive_cli.data.published import published


def fetch(data_dir: Path) -> None:
    """Download and unpack it below a folder."""
    from torchvision import datasets

    datasets.FashionMNIST(data_dir, download=True)


DATASET = published(
    name="fashion-mnist",
    help="70,000 gray images of 10 kinds of clothes, 28 px",
    size=28,
    channels=1,
    recipe="simclr-small",
    archive=Archive(
        folders=("FashionMNIST/raw", "fashion-mnist", "."),
        files={
            "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        },
        read=functools.partial(read_idx, num_classes=10),
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    fetch=fetch,
)

"""STL-10, with its unlabeled images. Coates, Lee, Ng 2011, https://cs.stanford.edu/~acoates/stl10."""

from __future__ import annotations

from pathlib import Path

from contrastive_cli.data.archives import Archive, read_stl10
from contrastive_cli.data.published import published


def fetch(data_dir: Path) -> None:
    """Download and unpack it below a folder."""
    from torchvision import datasets

    datasets.STL10(data_dir, split="test", download=True)


DATASET = published(
    name="stl10",
    help="13,000 labeled and 100,000 unlabeled color images of 10 kinds of things, 96 px",
    size=96,
    recipe="simclr",
    archive=Archive(
        folders=("stl10_binary", "."),
        files={
            "train": ("train_X.bin", "train_y.bin"),
            "test": ("test_X.bin", "test_y.bin"),
            "unlabeled": ("unlabeled_X.bin",),
        },
        read=read_stl10,
        classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    ),
    fetch=fetch,
    pretrain_split="train+unlabeled",
)

"""SVHN, the cropped digits. Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers."""

from __future__ import annotations

from pathlib import Path

from contrastive_cli.data.archives import Archive, read_svhn
from contrastive_cli.data.published import TEN_DIGITS, published


def fetch(data_dir: Path) -> None:
    """Download and unpack it below a folder."""
    from torchvision import datasets

    datasets.SVHN(data_dir, split="train", download=True)
    datasets.SVHN(data_dir, split="test", download=True)


DATASET = published(
    name="svhn",
    help="99,289 digits cut from photographs of house numbers, 32 px",
    size=32,
    recipe="simclr-small",
    archive=Archive(
        folders=(".", "svhn"),
        files={"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)},
        read=read_svhn,
        classes=TEN_DIGITS,
    ),
    fetch=fetch,
)

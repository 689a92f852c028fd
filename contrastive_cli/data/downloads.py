"""Fetch a dataset from its publisher, with the checksums that torchvision and scikit-learn know."""

from __future__ import annotations

from pathlib import Path

from contrastive_cli.core.errors import DataError


def download_dataset(name: str, *, data_dir: Path) -> None:
    """Fetch and unpack all splits of a dataset below `data_dir`.

    Raises:
        DataError: If there is nothing to fetch it from, no network, or what came is damaged.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if name == "lfw":
            _download_lfw(data_dir)
        else:
            _download_with_torchvision(name, data_dir)
    except (OSError, RuntimeError, EOFError) as error:  # URLError and HTTPError are OSErrors
        raise DataError(
            f"could not download {name}: {' '.join(str(error).split())}",
            hint=f"check the network, or put the files into {data_dir} yourself",
            path=data_dir,
        ) from None


def _download_with_torchvision(name: str, data_dir: Path) -> None:
    from torchvision import datasets

    if name == "cifar10":
        datasets.CIFAR10(data_dir, download=True)
    elif name == "cifar100":
        datasets.CIFAR100(data_dir, download=True)
    elif name == "stl10":
        datasets.STL10(data_dir, split="test", download=True)
    elif name == "svhn":
        datasets.SVHN(data_dir, split="train", download=True)
        datasets.SVHN(data_dir, split="test", download=True)
    elif name == "fashion-mnist":
        datasets.FashionMNIST(data_dir, download=True)
    else:
        raise DataError(f"dataset {name} cannot be downloaded", hint="say where it is with --data-dir")


def _download_lfw(data_dir: Path) -> None:
    from sklearn.datasets import fetch_lfw_people

    # The pictures stay below lfw_home; two people have this many, so little is decoded on the way.
    fetch_lfw_people(data_home=data_dir, min_faces_per_person=200)

"""Labeled Faces in the Wild. Huang et al. 2007, http://vis-www.cs.umass.edu/lfw."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from contrastive_cli.data.kinds import is_picture_name
from contrastive_cli.data.layout import split_of
from contrastive_cli.data.sources import Source, SplitRequest
from contrastive_cli.data.spec import DatasetSpec
from contrastive_cli.data.trees import tree_source

# As scikit-learn, torchvision and Kaggle unpack it; in the end the folder itself.
FOLDERS = (
    *("lfw_home/lfw_funneled", "lfw_funneled", "lfw", "lfw-deepfunneled", "."),
    *("lfw-py/lfw_funneled", "lfw-py/lfw", "lfw-py/lfw-deepfunneled", "lfw-dataset/lfw-deepfunneled"),
)
PATTERNS = ("[lL][fF][wW]*", "*/[lL][fF][wW]*", "*/*/[lL][fF][wW]*")
DEEPEST = 4  # folders that hold one folder only, on the way to the people


def open_lfw(request: SplitRequest) -> Source | None:
    """A split by people, or by the folders train, val and test; None if no folder of people is found."""
    for root in _places(request.data_dir):
        if _holds_people(root):
            return tree_source(request, root=root, whole_classes=True)
    return None


def fetch(data_dir: Path) -> None:
    """Download and unpack it below a folder."""
    from sklearn.datasets import fetch_lfw_people

    # The pictures stay below lfw_home; two people have this many, so little is decoded on the way.
    fetch_lfw_people(data_home=data_dir, min_faces_per_person=200)


def _places(data_dir: Path) -> Iterator[Path]:
    yield from (data_dir / folder for folder in FOLDERS)
    for pattern in PATTERNS:
        yield from sorted(data_dir.glob(pattern))


def _holds_people(root: Path) -> bool:
    """Whether folders of a folder hold pictures: one folder a person, or one a split."""
    for _ in range(DEEPEST):
        folders = _folders(root)
        if any(_has_picture(folder) for folder in folders):
            return True
        if any(split_of(folder.name) is not None for folder in folders):
            return any(_has_picture(person) for folder in folders for person in _folders(folder))
        if len(folders) != 1:
            return False
        root = folders[0]
    return False


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return [Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []


def _has_picture(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(is_picture_name(entry.name) and entry.is_file() for entry in entries)
    except OSError:
        return False


DATASET = DatasetSpec(
    name="lfw",
    help="13,233 photographs of 5,749 people, Labeled Faces in the Wild, 250 px; nobody is in two splits",
    channels=3,
    native_size=250,
    size=96,
    recipe="simclr",
    classes=None,
    splits=("train", "val", "test", "all"),
    identity_split="val",
    class_noun="person",
    class_plural="people",
    open=open_lfw,
    fetch=fetch,
    places=(*FOLDERS, "folders named lfw*, three levels down"),
    what="the folder that holds the folders of people",
)

"""The datasets, one entry each, and the one way to open them. Importing this loads neither torch nor scikit-learn."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contrastive_cli.core.config import did_you_mean
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.pictures import AskedRange
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.archives import Archive, find_archive
from contrastive_cli.data.cache import ImageSet, open_cached
from contrastive_cli.data.downloads import download_dataset
from contrastive_cli.data.images import Channels
from contrastive_cli.data.published import ARCHIVES, TEN_DIGITS, open_digits
from contrastive_cli.data.scan import SUFFIXES, find_splits
from contrastive_cli.data.sources import Request, Source, tree_source

DEFAULT_DATA_DIR = Path("data")
LFW_FOLDERS = ("lfw_home/lfw_funneled", "lfw_funneled", "lfw", "lfw-deepfunneled", ".")
SMALL_IMAGE = 64  # up to this side, the recipe of CIFAR-sized images


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """One dataset.

    Attributes:
        help: One line.
        native_size: Side of its images in pixels; None if they differ.
        size: Side they are stored with unless another is asked for.
        classes: By label; None if they are read off folders.
        pretrain_split: The split that pretraining uses.
        identity_split: The split of other classes than those trained on, where similarity is judged; None if none is.
        open: Finds a split below the data directory; None if it is not there.
        is_fetched: Whether it can be downloaded.
        has_bands: Whether bands of its pictures can be chosen.
    """

    name: str
    help: str
    channels: Channels
    native_size: int | None
    size: int
    classes: tuple[str, ...] | None
    splits: tuple[str, ...]
    pretrain_split: str = "train"
    identity_split: str | None = None
    open: Callable[[Request], Source | None]
    is_fetched: bool = True
    has_bands: bool = False

    @property
    def recipe(self) -> str:
        """Name of the augmentation recipe at the default size."""
        return self.recipe_at(self.size)

    def recipe_at(self, size: int) -> str:
        """Name of the augmentation recipe for images of that side."""
        if self.name == "digits":
            return "digits"
        return "simclr-small" if size <= SMALL_IMAGE else "simclr"


def open_dataset(
    name: str,
    *,
    split: str,
    data_dir: Path | None,
    size: int,
    download: bool = False,
    max_bad: float = 0.01,
    seed: int = 0,
    picture_range: AskedRange = "auto",
    bands: tuple[int, ...] | None = None,
    progress: CountProgress | None = None,
) -> ImageSet:
    """Return a split of a dataset as one uint8 array of square images, decoded now or earlier.

    Args:
        name: A key of `DATASETS`.
        split: One of the dataset's splits.
        data_dir: Where its files are; ./data if None. Not used by digits.
        size: Side of the stored images in pixels: shorter side resized, then center-cropped.
        download: Fetch the files if they are not there.
        max_bad: Largest fraction of undecodable files.
        seed: Draws the split where a dataset has none.
        picture_range: What becomes 0 and 255 of pictures with more than eight bits; "auto" measures it.
        bands: Bands of the pictures of a folder that become the channels; None takes the colors.
        progress: Called with (done, total) while decoding.

    Raises:
        UsageError: If there is no such dataset, split or size.
        DataError: If the files are absent or unusable.
        RunError: If the cache cannot be written.
    """
    spec = find_dataset(name)
    if split not in spec.splits:
        raise UsageError(f"dataset {name} has no split {split!r}{did_you_mean(split, spec.splits)}")
    if size < 1:
        raise UsageError(f"an image size of {size} pixels is not possible")
    if data_dir is not None and name == "digits":
        raise UsageError(
            f"digits comes with clr, so {os.fspath(data_dir)!r} would be ignored",
            hint="for the images of a folder add --dataset folder; else leave out --data-dir",
        )
    if data_dir is None and name == "folder":
        raise UsageError("dataset folder needs --data-dir, the folder with the images")
    if bands is not None and not spec.has_bands:
        raise UsageError(f"dataset.bands chooses bands of the pictures of a folder, and {name} has {spec.channels}")
    request = Request(
        name=name,
        split=split,
        data_dir=DEFAULT_DATA_DIR if data_dir is None else data_dir,
        size=size,
        channels=spec.channels if bands is None else len(bands),
        seed=seed,
        picture_range=picture_range,
        bands=bands,
    )
    source = spec.open(request)
    if source is None and download:
        download_dataset(name, data_dir=request.data_dir)
        source = spec.open(request)
    if source is None:
        raise _absent(request)
    return open_cached(source, max_bad=max_bad, progress=progress)


def find_dataset(name: str) -> DatasetSpec:
    """The entry of a dataset.

    Raises:
        UsageError: If there is none of that name.
    """
    if name not in DATASETS:
        raise UsageError(f"no dataset named {name!r}{did_you_mean(name, DATASETS)}")
    return DATASETS[name]


def _absent(request: Request) -> DataError:
    folder = request.data_dir
    shown = os.fspath(folder) if folder.is_absolute() else f"./{folder.as_posix()}"
    command = f"clr pretrain --dataset {request.name} --data-dir {shown} --download"
    return DataError(f"{request.name} is not in {shown}", hint=f"run `{command}`", path=folder)


def _open_folder(request: Request) -> Source:
    return tree_source(request, root=request.data_dir)


def _open_lfw(request: Request) -> Source | None:
    for folder in LFW_FOLDERS:
        root = request.data_dir / folder
        if find_splits(root) or _has_image_folders(root):
            return tree_source(request, root=root, whole_classes=True)
    return None


def _has_image_folders(root: Path) -> bool:
    """Whether any folder of `root` holds an image: one folder a person."""
    if not root.is_dir():
        return False
    return any(file.suffix.lower() in SUFFIXES for file in root.glob("*/*"))


def _open_published(request: Request, *, archive: Archive) -> Source | None:
    source = find_archive(request, archive=archive)
    if source is not None:
        return source
    for root in (request.data_dir / request.name, request.data_dir):  # its own folder before any
        if find_splits(root):
            return tree_source(request, root=root)
    return None


def _published(
    name: str, *, text: str, size: int, archive: Archive, channels: Channels = 3, pretrain_split: str = "train"
) -> DatasetSpec:
    splits = (*archive.files, *(() if pretrain_split in archive.files else (pretrain_split,)))
    return DatasetSpec(
        name=name,
        help=text,
        channels=channels,
        native_size=size,
        size=size,
        classes=archive.classes,
        splits=splits,
        pretrain_split=pretrain_split,
        open=functools.partial(_open_published, archive=archive),
    )


_SPECS = (
    DatasetSpec(
        name="digits",
        help="1,797 handwritten digits that come with scikit-learn; needs no files",
        channels=1,
        native_size=8,
        size=32,
        classes=TEN_DIGITS,
        splits=("train", "test"),
        open=open_digits,
        is_fetched=False,
    ),
    DatasetSpec(
        name="folder",
        help="your own images: any folder tree, classes are its sub-folders; train/, val/, test/ are splits, "
        "else a fifth of each class is kept out as test",
        channels=3,
        native_size=None,
        size=96,
        classes=None,
        splits=("train", "val", "test", "all"),
        open=_open_folder,
        is_fetched=False,
        has_bands=True,
    ),
    _published(
        "cifar10",
        text="60,000 color images of 10 kinds of things, 32 px",
        size=32,
        archive=ARCHIVES["cifar10"],
    ),
    _published(
        "cifar100",
        text="60,000 color images of 100 kinds of things, 32 px",
        size=32,
        archive=ARCHIVES["cifar100"],
    ),
    _published(
        "stl10",
        text="13,000 labeled and 100,000 unlabeled color images of 10 kinds of things, 96 px",
        size=96,
        archive=ARCHIVES["stl10"],
        pretrain_split="train+unlabeled",
    ),
    _published(
        "svhn",
        text="99,289 digits cut from photographs of house numbers, 32 px",
        size=32,
        archive=ARCHIVES["svhn"],
    ),
    _published(
        "fashion-mnist",
        text="70,000 gray images of 10 kinds of clothes, 28 px",
        size=28,
        channels=1,
        archive=ARCHIVES["fashion-mnist"],
    ),
    DatasetSpec(
        name="lfw",
        help="13,233 photographs of 5,749 people, Labeled Faces in the Wild, 250 px; nobody is in two splits",
        channels=3,
        native_size=250,
        size=96,
        classes=None,
        splits=("train", "val", "test", "all"),
        identity_split="val",
        open=_open_lfw,
    ),
)
DATASETS = {spec.name: spec for spec in _SPECS}

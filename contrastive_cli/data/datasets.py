"""Find a dataset by its name, and the one way to open it. Importing this loads neither torch nor scikit-learn.

A dataset is one file in `data/entries`, or one of a user's own: see `own_datasets`.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path

from contrastive_cli.core.config import did_you_mean
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.notes import note
from contrastive_cli.core.own_code import is_file_name
from contrastive_cli.core.pictures import AskedRange
from contrastive_cli.core.types import CountProgress, Say, silent
from contrastive_cli.data import entries
from contrastive_cli.data.cache import ImageSet, open_cached
from contrastive_cli.data.downloads import download_dataset
from contrastive_cli.data.own_datasets import checked_source, find_own
from contrastive_cli.data.sources import AS_NAMED, Source, SplitRequest, TreeOptions
from contrastive_cli.data.spec import DatasetSpec

DEFAULT_DATA_DIR = Path("data")
DEFAULT_DATASET = "digits"
FOLDER_DATASET = "folder"
NO_DATASET = "none"  # of an encoder that was imported


def _load_entries() -> dict[str, DatasetSpec]:
    stems = sorted(file.stem for folder in entries.__path__ for file in Path(folder).glob("[a-z]*.py"))
    found = [importlib.import_module(f"{entries.__name__}.{stem}").DATASET for stem in stems]
    return {spec.name: spec for spec in sorted(found, key=lambda spec: spec.fetch is not None)}


DATASETS: dict[str, DatasetSpec] = _load_entries()


def open_dataset(
    name: str,
    *,
    split: str,
    data_dir: Path | None,
    size: int,
    download: bool = False,
    max_bad: float = 0.01,
    seed: int = 0,
    tree: TreeOptions = AS_NAMED,
    picture_range: AskedRange = "auto",
    bands: tuple[int, ...] | None = None,
    progress: CountProgress | None = None,
    say: Say = silent,
) -> ImageSet:
    """Return a split of a dataset as one uint8 array of square images, decoded now or earlier.

    Args:
        name: As the next ones, see `find_source`.
        split: One of the dataset's splits.
        data_dir: Where its files are.
        size: Side of the stored images in pixels.
        download: Fetch the files if they are not there.
        max_bad: Largest fraction of undecodable files.
        seed: Draws the split where a dataset has none.
        tree: How a folder is to be read.
        picture_range: Of pictures with more than eight bits.
        bands: Of the pictures of a folder.
        progress: Called with (done, total) while decoding.
        say: Called before decoding with how many images become how many MB.

    Raises:
        UsageError: If there is no such dataset, split or size.
        DataError: If the files are absent or unusable.
        RunError: If the cache cannot be written.
    """
    source = find_source(
        name,
        split=split,
        data_dir=data_dir,
        size=size,
        download=download,
        max_bad=max_bad,
        seed=seed,
        tree=tree,
        picture_range=picture_range,
        bands=bands,
    )
    return open_cached(source, max_bad=max_bad, progress=progress, say=say)


def find_source(
    name: str,
    *,
    split: str,
    data_dir: Path | None,
    size: int,
    download: bool = False,
    max_bad: float = 0.01,
    seed: int = 0,
    tree: TreeOptions = AS_NAMED,
    picture_range: AskedRange = "auto",
    bands: tuple[int, ...] | None = None,
    framing: Framing | None = None,
) -> Source:
    """Find a split of a dataset, of which nothing is decoded yet, and say how it was read.

    Args:
        name: A key of `DATASETS`, or a dataset of one's own.
        split: One of the dataset's splits.
        data_dir: Where its files are; ./data if None. Not used by datasets that need no files.
        size: Side of the stored images in pixels: shorter side resized, then center-cropped.
        download: Fetch the files if they are not there.
        max_bad: Largest fraction of undecodable files.
        seed: Draws the split where a dataset has none.
        tree: How a folder is to be read, where its names do not say enough.
        picture_range: What becomes 0 and 255 of pictures with more than eight bits; "auto" measures it.
        bands: Bands of the pictures of a folder that become the channels; None takes the colors.
        framing: How pictures become squares; None for the rule of this package.

    Raises:
        UsageError: If there is no such dataset, split or size.
        DataError: If the files are absent or unusable.
    """
    spec = find_dataset(name)
    if split not in spec.splits:
        raise UsageError(f"dataset {spec.name} has no split {split!r}{did_you_mean(split, spec.splits)}")
    if size < 1:
        raise UsageError(f"an image size of {size} pixels is not possible")
    if data_dir is not None and spec.folder == "none":
        raise UsageError(
            f"{spec.name} comes with clr, so {os.fspath(data_dir)!r} would be ignored",
            hint="for the images of a folder add --dataset folder; else leave out --data-dir",
        )
    if data_dir is None and spec.folder == "needed":
        raise UsageError(f"dataset {spec.name} needs --data-dir, the folder with the images")
    if bands is not None and not spec.has_bands:
        raise UsageError(f"dataset.bands chooses bands of the pictures of a folder, and {name} has {spec.channels}")
    request = SplitRequest(
        name=spec.name,
        split=split,
        data_dir=DEFAULT_DATA_DIR if data_dir is None else data_dir,
        size=size,
        channels=spec.channels if bands is None else len(bands),
        seed=seed,
        max_bad=max_bad,
        tree=tree,
        picture_range=picture_range,
        bands=bands,
        framing=framing,
    )
    own = find_own(name)
    source = checked_source(own, request) if own is not None else spec.open(request)
    if source is None and download:
        download_dataset(spec, data_dir=request.data_dir)
        source = checked_source(own, request) if own is not None else spec.open(request)
    if source is None:
        raise _absent(spec, request.data_dir)
    if source.reading is None and tree != AS_NAMED:
        raise UsageError(
            f"{spec.name} is no folder of pictures, so --labels, --unlabeled and --layout would be ignored",
            hint="leave them out",
        )
    for line in (*(source.reading.lines if source.reading is not None else ()), *source.notes):
        note(line)
    return source if framing is None else replace(source, identity=(*source.identity, f"framing {framing!r}"))


def find_dataset(name: str) -> DatasetSpec:
    """The entry of a dataset.

    Raises:
        UsageError: If there is none of that name, or it is a file that nobody has named.
    """
    if name in DATASETS:
        return DATASETS[name]
    if name == NO_DATASET:
        raise UsageError("an imported encoder has no dataset of its own", hint="give --dataset, or files and folders")
    own = find_own(name)
    if own is not None:
        return own.spec
    if is_file_name(name):
        raise UsageError(
            f"the dataset {name} is a file of somebody's own, which is run only when it is named",
            hint=f"if you trust it, add --dataset {name}",
        )
    raise UsageError(f"no dataset named {name!r}{did_you_mean(name, DATASETS)}")


def known_dataset(name: str) -> DatasetSpec | None:
    """The entry of a dataset, or None where `find_dataset` raises."""
    try:
        return find_dataset(name)
    except UsageError:
        return None


def _absent(spec: DatasetSpec, folder: Path) -> DataError:
    shown = os.fspath(folder) if folder.is_absolute() else f"./{folder.as_posix()}"
    looked = f" (looked in {', '.join(spec.places)})" if spec.places else ""
    hints = []
    if spec.fetch is not None:
        hints.append(f"run `clr pretrain --dataset {spec.name} --data-dir {shown} --download`")
    if spec.what:
        hints.append(f"give {spec.what} by --data-dir")
    return DataError(f"{spec.name} is not in {shown}{looked}", hint=", or ".join(hints) or None, path=folder)

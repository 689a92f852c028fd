"""Find images in a folder tree, and what its folders say: splits and classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "unlabeled": "unlabeled",
}
SKIPPED_FOLDERS = ("__MACOSX",)

Labels = NDArray[np.int64]
OnUnreadable = Callable[[Path, OSError], None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FolderLabels:
    """Labels read off folder names.

    Attributes:
        labels: int64 [N], -1 where the file sits in no class folder.
        classes: Folder names, sorted; empty if there are fewer than two.
    """

    labels: Labels
    classes: tuple[str, ...]


def scan_images(root: Path, *, on_unreadable: OnUnreadable | None = None) -> list[Path]:
    """List the image files below a folder, sorted by path.

    Links are followed, but each folder is listed once, so loops end. Real folders come before links: a folder that
    is also linked to keeps its own name (and so its class). Hidden names and what is not a regular file are skipped.

    Args:
        root: The folder.
        on_unreadable: Called with each folder that cannot be listed; they are skipped.

    Raises:
        DataError: If `root` is not a folder that can be listed.
    """
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        raise DataError(
            f"cannot list folder {os.fspath(root)!r}: {error.strerror}", hint="see --data-dir", path=root
        ) from None
    found: list[str] = []
    visited: set[tuple[int, int]] = set()
    links = [os.fspath(root)]
    while links:
        links.sort(reverse=True)
        folders = [links.pop()]
        while folders:
            folder = folders.pop()
            try:
                _list_folder(folder, found=found, folders=folders, links=links, visited=visited)
            except OSError as error:
                if on_unreadable is not None:
                    on_unreadable(Path(folder), error)
    return [Path(path) for path in sorted(found)]


def find_labels(root: Path, files: Sequence[Path], *, classes: Sequence[str] | None = None) -> FolderLabels:
    """Label each file with the first folder below `root` that it sits in.

    Args:
        root: The folder that was scanned.
        files: Files below it.
        classes: Use these classes, in this order, instead of the folders found (a test split has those of train).
    """
    return label_folders(first_folders(files, root), classes=classes)


def first_folders(files: Sequence[Path], root: Path) -> list[str | None]:
    """The first folder below `root` that each file sits in; None for those that sit in `root` itself."""
    parts = (name.split("/", 1) for name in relative_names(files, root))
    return [part[0] if len(part) > 1 else None for part in parts]


def label_folders(owners: Sequence[str | None], *, classes: Sequence[str] | None = None) -> FolderLabels:
    """Number class folders, one a sample; None and folders outside `classes` become -1."""
    names = sorted({owner for owner in owners if owner is not None}) if classes is None else list(classes)
    if len(names) < 2:
        return FolderLabels(labels=np.full(len(owners), -1, dtype=np.int64), classes=())
    numbers = {name: number for number, name in enumerate(names)}
    labels = [-1 if owner is None else numbers.get(owner, -1) for owner in owners]
    return FolderLabels(labels=np.array(labels, dtype=np.int64), classes=tuple(names))


def relative_names(files: Sequence[Path], root: Path) -> list[str]:
    """The posix paths of files below `root`; far faster than pathlib, which counts with a million files.

    Raises:
        ValueError: If a file is not below `root`.
    """
    prefix = os.fspath(root)
    prefix = "" if prefix == "." else prefix.rstrip(os.sep) + os.sep
    names = []
    for file in files:
        text = os.fspath(file)
        if not text.startswith(prefix):
            raise ValueError(f"{text!r} is not below {prefix!r}")
        names.append(text[len(prefix) :])
    return names if os.sep == "/" else [name.replace(os.sep, "/") for name in names]


def find_splits(root: Path) -> dict[str, Path]:
    """Map split names to the folders of `root` that hold them; empty if it is not laid out by splits.

    It is when there is a `train` folder, and either another split folder or no other folder: `train` beside
    `plane` and `car` is a class.
    """
    try:
        with os.scandir(root) as entries:
            folders = sorted(entry.name for entry in entries if not _is_skipped(entry.name) and entry.is_dir())
    except OSError:
        return {}
    splits: dict[str, Path] = {}
    for folder in folders:
        if folder.lower() in SPLIT_FOLDERS:
            splits.setdefault(SPLIT_FOLDERS[folder.lower()], root / folder)
    return splits if "train" in splits and (len(splits) > 1 or len(folders) == 1) else {}


def stratified_split(labels: Labels, *, seed: int, test_fraction: float = 0.2) -> tuple[Labels, Labels]:
    """Split samples so that each class gives its share to the test part, rounded down or up.

    The samples are shuffled within their class, laid out class by class, and every 1/test_fraction-th is taken. A
    class with one sample stays in train; unlabeled samples (-1) count as a class, so without labels the split is
    plainly random. PCG64's raw stream is fixed for all NumPy versions, so the split never changes.

    Args:
        labels: int64 [N].
        seed: Same seed, same split.
        test_fraction: In (0, 0.5].

    Returns:
        Indices of the train and of the test part, int64, each ascending.

    Raises:
        ValueError: If `test_fraction` is outside its range.
    """
    if not 0 < test_fraction <= 0.5:
        raise ValueError(f"test_fraction must be in (0, 0.5], not {test_fraction}")
    generator = np.random.PCG64(seed)
    keys = generator.random_raw(len(labels))
    _, groups, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((keys, groups))
    order = order[counts[groups[order]] > 1]
    start = float(generator.random_raw()) / 2.0**64
    boundaries = np.floor(np.arange(len(order) + 1) * test_fraction + start)
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[order[np.diff(boundaries) > 0]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _list_folder(
    folder: str, *, found: list[str], folders: list[str], links: list[str], visited: set[tuple[int, int]]
) -> None:
    status = Path(folder).stat()
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_skipped(entry.name):
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif entry.name.lower().endswith(SUFFIXES) and _is_file(entry):
                found.append(entry.path)


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED_FOLDERS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def split_by_name(name: str, *, seed: int) -> Literal["train", "val", "test"]:
    """The part that a class belongs to, by a hash of its name: 60 % train, 10 % val, 30 % test.

    It depends on no other class, so the parts stay when classes are added.
    """
    digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "backslashreplace")).digest()
    share = int.from_bytes(digest[:8], "little") / 2**64
    return "train" if share < 0.6 else "val" if share < 0.7 else "test"

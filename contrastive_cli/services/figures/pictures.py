"""Thumbnails of embedded images: of the split they were made of, else of the dataset or the files that they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import ClrError, DataError, RunError
from contrastive_cli.core.runs import Run, find_run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset, open_dataset
from contrastive_cli.data.images import BadImage, decode
from contrastive_cli.data.packing import decoding_threads
from contrastive_cli.data.quiet_decoders import quiet_decoders
from contrastive_cli.data.squares import resize_array
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.services.configuration import read_run_config
from contrastive_cli.viz.embedding_map import Thumbnails

SIZE = 48  # pixels of a side; images that are smaller stay as they are
LOOKED_AT = 50  # names that are tried to learn where the files lie


def find_pictures(
    embeddings: Embeddings,
    chosen: NDArray[np.int64],
    *,
    images: ImageSet | None,
    file: Path | None,
    run: Run | None,
    data_dir: Path | None,
    progress: CountProgress | None = None,
) -> tuple[Thumbnails | None, str]:
    """Thumbnails of the chosen rows, None if there are no pictures; and in words what is missing.

    Args:
        embeddings: N embeddings.
        chosen: [M] rows of them.
        images: The split that they were made of, row by row, if it is at hand.
        file: The file that they were read from, beside which images may lie.
        run: The run that made them, if it is known; else it is looked up by the name in the file.
        data_dir: Where the images are, if the user says so.
        progress: Called with (pictures done, M).
    """
    if images is not None:
        return _from_split(images, chosen, progress=progress), ""
    reasons = []
    if embeddings.dataset.get("name"):
        try:
            split, rows = _rows_of_split(embeddings, run=run, data_dir=data_dir, progress=progress)
        except ClrError as error:
            reasons.append(error.message)
        else:
            return _with_note(_from_split(split, rows[chosen], progress=progress))
    if embeddings.paths is not None:
        names = [embeddings.paths[row] for row in chosen]
        root = _root_of(names, roots=[data_dir, Path(), None if file is None else file.parent])
        if root is not None:
            return _with_note(pictures_of_files([root / name for name in names], progress=progress))
        reasons.append(f"no image of the file's names, such as {names[0]!r}, is on this disk")
    reason = "; ".join(reasons) or "the file names no images"
    return None, f"dots only, without pictures: {reason}"


def _with_note(thumbnails: Thumbnails) -> tuple[Thumbnails | None, str]:
    missing = int((~thumbnails.present).sum())
    if missing == len(thumbnails.present):
        return None, "dots only, without pictures: no image can be read"
    return thumbnails, f"{missing} of {len(thumbnails.present)} pictures cannot be read" if missing else ""


def _rows_of_split(
    embeddings: Embeddings, *, run: Run | None, data_dir: Path | None, progress: CountProgress | None
) -> tuple[ImageSet, NDArray[np.int64]]:
    """The split that the file names, and the row [N] of each embedding in it, -1 where it has none.

    Raises:
        ClrError: If the dataset is not at hand, or is another.
    """
    name, split = str(embeddings.dataset.get("name")), str(embeddings.dataset.get("split"))
    size = find_dataset(name).size
    made_by = run or _run_named(embeddings.model.get("run"))
    if made_by is not None:
        own = read_run_config(made_by).dataset
        size = made_by.manifest().decoded_size
        data_dir = data_dir or (own.data_dir if own.name == name else None)
    images = open_dataset(name, split=split, data_dir=data_dir, size=size, max_bad=1.0, progress=progress)
    if embeddings.paths is not None:
        place = {path: row for row, path in enumerate(images.paths)}
        rows = np.array([place.get(path, -1) for path in embeddings.paths], np.int64)
    elif embeddings.indices is not None and embeddings.dataset.get("fingerprint") == images.fingerprint:
        rows = np.where(embeddings.indices < images.num_samples, embeddings.indices, -1)
    else:
        rows = np.full(len(embeddings.vectors), -1)
    if (rows < 0).all():
        raise DataError(f"the {split} images of {name} here are not those that were embedded")
    return images, rows


def _run_named(name: object) -> Run | None:
    if not isinstance(name, str) or not name:
        return None
    try:
        return find_run(name)
    except RunError:
        return None


def _from_split(images: ImageSet, rows: NDArray[np.int64], *, progress: CountProgress | None) -> Thumbnails:
    size = min(SIZE, images.size)

    def read(number: int) -> NDArray[np.uint8] | None:
        row = int(rows[number])
        return None if row < 0 else resize_array(np.asarray(images.images[row]), size=size)

    return _read_all(read, len(rows), channels=images.channels, size=size, progress=progress)


def pictures_of_files(paths: Sequence[Path], *, progress: CountProgress | None = None) -> Thumbnails:
    """Thumbnails of image files, in order; those that cannot be read are absent."""

    def read(number: int) -> NDArray[np.uint8] | None:
        try:
            return decode(paths[number], size=SIZE, channels=3)
        except BadImage:
            return None

    with quiet_decoders():
        return _read_all(read, len(paths), channels=3, size=SIZE, progress=progress)


def _read_all(
    read: Callable[[int], NDArray[np.uint8] | None],
    count: int,
    *,
    channels: int,
    size: int,
    progress: CountProgress | None,
) -> Thumbnails:
    pixels = np.zeros((count, channels, size, size), np.uint8)
    present = np.zeros(count, np.bool_)
    with ThreadPoolExecutor(decoding_threads(), thread_name_prefix="decode") as pool:
        for number, found in enumerate(pool.map(read, range(count))):
            if found is not None:
                pixels[number], present[number] = found, True
            if progress is not None:
                progress(number + 1, count)
    return Thumbnails(pixels=pixels, present=present)


def _root_of(names: Sequence[str], *, roots: Sequence[Path | None]) -> Path | None:
    """The folder below which most of some names are files; None if none is anywhere."""
    tried = names[:: max(1, len(names) // LOOKED_AT)]
    best, most = None, 0
    for root in roots:
        if root is not None:
            found = sum(_is_file(root / name) for name in tried)
            if found > most:
                best, most = root, found
    return best


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that can be none: too long, or with a NUL
        return False

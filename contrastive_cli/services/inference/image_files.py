"""Embeddings of image files: decoded in threads, a thousand at a time, so that memory does not grow with a folder."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.images import BadImage, decode, quiet_decoders
from contrastive_cli.data.packing import decoding_threads
from contrastive_cli.data.scan import find_labels, scan_images
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.services.inference.model import Layer, Model, embed_with_uncertainty, identity_of, preprocess_of

FILES_AT_ONCE = 1024


def embed_paths(
    model: Model,
    paths: Sequence[Path],
    *,
    root: Path | None = None,
    layer: Layer = "h",
    progress: CountProgress | None = None,
) -> tuple[Embeddings, tuple[BadImage, ...]]:
    """Embed image files in the given order; files that cannot be read are left out and returned.

    With a `root`, its sub-folders are the classes of the files below it.

    Raises:
        DataError: If none can be read.
    """
    parts: list[tuple[NDArray[np.float32], NDArray[np.float32] | None]] = []
    kept: list[Path] = []
    bad: list[BadImage] = []
    for start in range(0, len(paths), FILES_AT_ONCE):
        pixels, readable, unreadable = decode_all(model, paths[start : start + FILES_AT_ONCE])
        kept += readable
        bad += unreadable
        if readable:
            after = None if progress is None else partial(_count_from, progress, start, len(paths))
            parts.append(embed_with_uncertainty(model, pixels, layer=layer, progress=after))
    if not kept:
        raise bad[0] if bad else DataError("no images were given")
    vectors = np.concatenate([part for part, _ in parts])
    uncertainties = [part for _, part in parts if part is not None]
    labels, classes = _folder_labels(root, kept)
    embeddings = Embeddings(
        vectors=vectors,
        uncertainty=np.concatenate(uncertainties) if uncertainties else None,
        labels=labels,
        classes=classes,
        paths=tuple(str(path) for path in kept),
        indices=None,
        model=identity_of(model, layer),
        preprocess=preprocess_of(model),
        dataset={},
    )
    return embeddings, tuple(bad)


def _count_from(progress: CountProgress, start: int, total: int, done: int, _: int) -> None:
    progress(start + done, total)


def decode_all(
    model: Model, paths: Sequence[Path], *, progress: CountProgress | None = None
) -> tuple[NDArray[np.uint8], list[Path], list[BadImage]]:
    """Decode files as the training did: uint8 [N, C, S, S], the readable paths, and the reasons for the others."""
    manifest = model.manifest

    def read(path: Path) -> NDArray[np.uint8] | BadImage:
        try:
            return decode(
                path,
                size=manifest.decoded_size,
                channels=model.channels,
                picture_range=manifest.range,
                bands=manifest.bands,
            )
        except BadImage as error:
            return error

    pixels: list[NDArray[np.uint8]] = []
    kept: list[Path] = []
    bad: list[BadImage] = []
    pool = ThreadPoolExecutor(decoding_threads(), thread_name_prefix="decode")
    try:
        with quiet_decoders():
            for number, (path, found) in enumerate(zip(paths, pool.map(read, paths), strict=True), 1):
                if isinstance(found, BadImage):
                    bad.append(found)
                else:
                    pixels.append(found)
                    kept.append(path)
                if progress is not None:
                    progress(number, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    return np.stack(pixels) if pixels else np.zeros((0, 0, 0, 0), np.uint8), kept, bad


def _folder_labels(root: Path | None, files: Sequence[Path]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    if root is None:
        return None, ()
    found = find_labels(root, files)
    return (found.labels, tuple(found.classes)) if found.classes else (None, ())


def expand_paths(paths: Sequence[Path]) -> list[Path]:
    """Folders become the images below them, sorted; files stay. What is named twice is there once.

    Raises:
        DataError: If a path does not exist or a folder holds no image.
    """
    expanded: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = scan_images(path)
            if not found:
                raise DataError(f"no images below {path}", path=path)
            expanded += found
        elif path.exists():
            expanded.append(path)
        else:
            raise DataError(f"{path} does not exist", path=path)
    return list(dict.fromkeys(expanded))

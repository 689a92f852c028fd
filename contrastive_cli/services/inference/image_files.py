"""Embeddings of image files: decoded in threads, some hundreds at once, so that memory does not grow with a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.choices import Layer
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.notes import note
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.images import BadImage, decode
from contrastive_cli.data.kinds import picture_suffixes
from contrastive_cli.data.packing import decoding_threads
from contrastive_cli.data.quiet_decoders import quiet_decoders
from contrastive_cli.data.scan import FolderLabels
from contrastive_cli.data.sources import AS_NAMED, TreeOptions
from contrastive_cli.data.trees import describe_splits, folder_parts, read_tree
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.engine.distributed import alone, dealt, gather_pieces, largest, num_processes, of_all
from contrastive_cli.services.inference.identity import identity_of, preprocess_of
from contrastive_cli.services.inference.model import Model, embed_with_uncertainty, width_of

FILES_AT_ONCE = 256  # a piece of work for one process


def embed_paths(
    model: Model,
    paths: Sequence[Path],
    *,
    labels: FolderLabels | None = None,
    layer: Layer = "h",
    crops: int = 1,
    progress: CountProgress | None = None,
) -> tuple[Embeddings, tuple[BadImage, ...]]:
    """Embed image files in the given order, raw; files that cannot be read are left out and returned.

    Args:
        model: The trained model.
        paths: The files.
        labels: Their labels, one a path.
        layer: The encoder's h, or the projector's z.
        crops: Pictures of each that the embedding is the mean of.
        progress: Called with (done, total).

    Raises:
        DataError: If none can be read.
    """
    embeddings, bad = embed_readable(model, paths, labels=labels, layer=layer, crops=crops, progress=progress)
    if embeddings is None:
        raise nothing_readable(bad)
    return embeddings, bad


def nothing_readable(bad: Sequence[BadImage]) -> DataError:
    """The error of images of which none was embedded: the first reason, if there is one."""
    return bad[0] if bad else DataError("no images were given")


def embed_readable(
    model: Model,
    paths: Sequence[Path],
    *,
    labels: FolderLabels | None = None,
    layer: Layer = "h",
    crops: int = 1,
    progress: CountProgress | None = None,
) -> tuple[Embeddings | None, tuple[BadImage, ...]]:
    """As `embed_paths`; None if no file can be read.

    Several processes are dealt the pieces, which are those of one process; all of them get the whole.
    """
    starts = range(0, len(paths), FILES_AT_ONCE)
    is_dealt = num_processes() > 1 and len(starts) >= num_processes()  # of a few, all read them all
    own: list[_Piece] = []
    for number in dealt(len(starts)) if is_dealt else range(len(starts)):
        start = starts[number]
        with alone() if is_dealt else contextlib.nullcontext():
            pixels, kept, bad = decode_all(model, paths[start : start + FILES_AT_ONCE])
            after = None if progress is None else partial(count_from, progress, start, len(paths))
            if kept:
                vectors, found = embed_with_uncertainty(model, pixels, layer=layer, crops=crops, progress=after)
            else:
                vectors, found = np.zeros((0, width_of(model, layer)), np.float32), None
        uncertainty = np.zeros(0, np.float32) if found is None else found
        own.append(_Piece(vectors=vectors, uncertainty=uncertainty, kept=kept, bad=bad))
    pieces = _gathered(own, len(starts)) if is_dealt else own
    kept = [path for piece in pieces for path in piece.kept]
    unreadable = tuple(error for piece in pieces for error in piece.bad)
    if not kept:
        return None, unreadable
    uncertainty = np.concatenate([piece.uncertainty for piece in pieces])
    has_labels = labels is not None and bool(labels.classes)
    embeddings = Embeddings(
        vectors=np.concatenate([piece.vectors for piece in pieces]),
        uncertainty=uncertainty if len(uncertainty) else None,
        labels=_labels_of(kept, paths, labels) if labels is not None and has_labels else None,
        classes=labels.classes if labels is not None and has_labels else (),
        paths=tuple(str(path) for path in kept),
        indices=None,
        model=identity_of(model, layer, crops=crops),
        preprocess=preprocess_of(model),
        dataset={},
    )
    return embeddings, unreadable


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Piece:
    """Some files: vectors [n, D] and uncertainty [n], or [0], of those that could be read."""

    vectors: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    kept: list[Path]
    bad: list[BadImage]


def _gathered(own: Sequence[_Piece], count: int) -> list[_Piece]:
    """The pieces of all processes, in the order of the files."""
    told = of_all([(piece.kept, [(error.path, error.reason) for error in piece.bad]) for piece in own])
    facts = [told[number % num_processes()][number // num_processes()] for number in range(count)]
    lengths = [len(kept) for kept, _ in facts]
    if not any(lengths):
        return [
            _Piece(vectors=own[0].vectors, uncertainty=own[0].uncertainty, kept=[], bad=_rebuilt(bad))
            for _, bad in facts
        ]
    vectors = gather_pieces([torch.from_numpy(piece.vectors) for piece in own], lengths)
    # A piece without a readable file cannot tell whether the method has an uncertainty; another one can.
    knows = bool(largest(max(len(piece.uncertainty) for piece in own)))
    columns = [torch.from_numpy(piece.uncertainty) for piece in own]
    uncertainty = gather_pieces(columns, lengths) if knows else [torch.zeros(0)] * count
    return [
        _Piece(
            vectors=vectors[number].numpy(),
            uncertainty=uncertainty[number].numpy(),
            kept=kept,
            bad=_rebuilt(bad),
        )
        for number, (kept, bad) in enumerate(facts)
    ]


def _rebuilt(bad: Sequence[tuple[str | None, str]]) -> list[BadImage]:
    """Errors do not travel, what they say does."""
    return [BadImage(Path(str(path)), reason) for path, reason in bad]


def count_from(progress: CountProgress, start: int, total: int, done: int, _: int) -> None:
    """Tell of `done` images of a piece that begins at `start`, as of all `total`."""
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
                framing=manifest.decoded_framing,
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


def _labels_of(kept: Sequence[Path], paths: Sequence[Path], labels: FolderLabels) -> NDArray[np.int64]:
    numbers = dict(zip(paths, labels.labels.tolist(), strict=True))
    return np.array([numbers[path] for path in kept], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expanded:
    """Image files that were named one by one or by their folder; labels where it is one folder."""

    files: tuple[Path, ...]
    labels: FolderLabels | None
    unused: int


def expand_paths(paths: Sequence[Path], *, options: TreeOptions = AS_NAMED, max_bad: float = 0.01) -> Expanded:
    """Folders become the images below them, sorted; files stay. What is named twice is there once.

    One folder is read as every command reads it, and gives labels; with more paths there are none.

    Raises:
        DataError: If a path does not exist, a folder holds no image, or its reading is doubtful.
    """
    alone = len(paths) == 1
    if options != AS_NAMED and not (alone and paths[0].is_dir()):
        raise UsageError("--labels, --unlabeled and --layout are for one folder of pictures")
    expanded: list[Path] = []
    labels, unused = None, 0
    for path in paths:
        if path.is_dir():
            tree = read_tree(path, options=options if alone else TreeOptions(unlabeled=True), max_bad=max_bad)
            reading = describe_splits(tree, folder_parts(tree))
            if not tree.files:
                other = reading.describe_unused()
                raise DataError(
                    f"no images below {path}" + (f" ({other})" if other else ""),
                    hint=f"known suffixes: {' '.join(picture_suffixes())}",
                    path=path,
                )
            for line in reading.lines:
                note(line)
            expanded += tree.files
            labels, unused = tree.found if alone else None, unused + len(reading.unused)
        elif path.exists():
            expanded.append(path)
        else:
            raise DataError(f"{path} does not exist", path=path)
    return Expanded(files=tuple(dict.fromkeys(expanded)), labels=labels, unused=unused)

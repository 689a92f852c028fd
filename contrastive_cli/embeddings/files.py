"""Files of embeddings and of neighbors: written whole or not at all, read from anyone without trust.

Our own `.pkl` is a plain dict that `pickle.load` and numpy read without this package; `.npz` and `.safetensors` hold
the same columns. Reading tells the format by content and accepts the layouts that other people use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, UnsafeFileError
from contrastive_cli.core.files import is_table, write_atomically
from contrastive_cli.embeddings import file_formats
from contrastive_cli.embeddings.columns import (
    check_finite,
    check_length,
    foreign_json,
    to_float32,
    to_int64,
    to_json,
    to_labels,
    to_text,
)
from contrastive_cli.embeddings.foreign_columns import columns_beside
from contrastive_cli.embeddings.foreign_layouts import layout_of
from contrastive_cli.embeddings.placing import as_text, space_columns, space_from
from contrastive_cli.embeddings.result_tables import write_embeddings_table
from contrastive_cli.embeddings.space import Space

EMBEDDINGS_SCHEMA = "clr-embeddings/1"
NEIGHBORS_SCHEMA = "clr-neighbors/1"
UNKNOWN_LABEL = -1

Json = Mapping[str, Any]
Column = TypeVar("Column")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embeddings:
    """Embeddings of N images and what is known of them.

    Attributes:
        vectors: [N, D] float32, finite.
        labels: [N] int64, -1 where unknown; None if the dataset has none.
        classes: Names of the labels, in order; may be empty.
        paths: N names of the images, relative to the dataset where there is one.
        indices: [N] int64, positions in the dataset.
        uncertainty: [N] float32, where the method has one.
        model: Plain JSON: run, checkpoint (sha256), method, encoder, layer, space, exponent, crops.
        preprocess: Plain JSON: size, mean, std.
        dataset: Plain JSON: name, split, fingerprint.
        space: The space that `model` says the vectors are in, or that they can be turned into.
        notes: What a stranger's file holds that was left out or may be read otherwise; not written.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    paths: tuple[str, ...] | None = None
    indices: NDArray[np.int64] | None = None
    uncertainty: NDArray[np.float32] | None = None
    model: Json = field(default_factory=dict)
    preprocess: Json = field(default_factory=dict)
    dataset: Json = field(default_factory=dict)
    space: Space | None = None
    notes: tuple[str, ...] = ()

    def frame(self) -> Any:
        """A row an image: a `pandas.DataFrame`, or without pandas a `pyarrow.Table`; see `embeddings.frames`."""
        from contrastive_cli.embeddings.frames import to_frame

        return to_frame(self)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeighborsFile:
    """The K nearest neighbors of N images, nearest first.

    Attributes:
        indices: [N, K] int64, positions in the set that was searched.
        distances: [N, K] float32, finite, by `metric`.
        metric: The name of the distance: cosine, euclidean.
        paths: N names of the images.
        dataset: Plain JSON: name, split, fingerprint of the set that was searched.
        source: Where the embeddings came from: a file name, or the sha256 of a checkpoint.
        queries: Where the N images came from, if they were looked up in another set; empty if they are of the same.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    metric: str
    paths: tuple[str, ...] | None = None
    dataset: Json = field(default_factory=dict)
    source: str = ""
    queries: str = ""


def write_embeddings(path: Path, embeddings: Embeddings) -> str:
    """Write `embeddings` in the format that the suffix names (.pkl, .npz, .csv, ...); returns the sha256.

    Raises:
        UsageError: If the suffix names no format.
        DataError: If the columns do not fit together or a vector is not finite; nothing is written.
        RunError: If the file cannot be written.
    """
    _check_embeddings(embeddings)
    if is_table(path):
        return write_embeddings_table(path, embeddings)
    columns: dict[str, Any] = {
        "schema": EMBEDDINGS_SCHEMA,
        "embeddings": np.ascontiguousarray(embeddings.vectors),
        "labels": embeddings.labels,
        "classes": list(embeddings.classes),
        "paths": _listed(embeddings.paths),
        "indices": embeddings.indices,
        "uncertainty": embeddings.uncertainty,
        "model": to_json(embeddings.model, "model"),
        "preprocess": to_json(embeddings.preprocess, "preprocess"),
        "dataset": to_json(embeddings.dataset, "dataset"),
    }
    space = space_columns(embeddings.space)
    columns |= as_text(space) if path.suffix.lower() == ".parquet" else space
    return write_atomically(path, file_formats.encode(_without_none(columns), path))


def read_embeddings(path: Path) -> Embeddings:
    """Read embeddings, ours or a stranger's; the format is told by content (also .npy and torch.save).

    A folder is one of shards, which `shard_folder` reads.

    Raises:
        DataError: If the file is missing, damaged, or holds no finite numeric matrix with columns of its length.
        UnsafeFileError: If reading it could run code or exhaust the machine.
    """
    if path.is_dir():
        from contrastive_cli.embeddings.shard_folder import read_folder

        return read_folder(path)
    value = file_formats.decode(path)
    if isinstance(value, Mapping) and str(value.get("schema")) == NEIGHBORS_SCHEMA:
        raise DataError(
            f"{path} holds neighbors, not embeddings", hint="give the file that they were mined from", path=path
        )
    is_ours = isinstance(value, Mapping) and str(value.get("schema")) == EMBEDDINGS_SCHEMA
    try:
        embeddings = _own(value) if is_ours else _foreign(value)
        _check_embeddings(embeddings)
    except (DataError, UnsafeFileError) as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint, path=path) from None
    return embeddings


def write_neighbors(path: Path, neighbors: NeighborsFile) -> str:
    """Write `neighbors` as .pkl, .npz or .safetensors; returns the sha256. Raises as `write_embeddings`."""
    _check_neighbors(neighbors)
    columns: dict[str, Any] = {
        "schema": NEIGHBORS_SCHEMA,
        "indices": np.ascontiguousarray(neighbors.indices),
        "distances": np.ascontiguousarray(neighbors.distances),
        "metric": neighbors.metric,
        "paths": _listed(neighbors.paths),
        "dataset": to_json(neighbors.dataset, "dataset"),
        "source": neighbors.source,
        "queries": neighbors.queries or None,
    }
    return write_atomically(path, file_formats.encode(_without_none(columns), path))


def read_neighbors(path: Path) -> NeighborsFile:
    """Read a file of neighbors: ours, or a dict (or .npz) with `indices` and `distances`. Raises as above."""
    value = file_formats.decode(path)
    try:
        if not isinstance(value, dict) or value.get("indices") is None or value.get("distances") is None:
            raise DataError("not a file of neighbors", hint="give a .pkl, .npz or .safetensors that `clr knn` wrote")
        neighbors = NeighborsFile(
            indices=to_int64(value["indices"], "indices"),
            distances=to_float32(value["distances"], "distances"),
            metric=str(value.get("metric", "unknown")),
            paths=_optional(value.get("paths"), "paths", to_text),
            dataset=foreign_json(value.get("dataset")),
            source=str(value.get("source", "")),
            queries=str(value.get("queries", "")),
        )
        _check_neighbors(neighbors)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint=error.hint, path=path) from None
    return neighbors


def _own(value: Mapping[str, Any]) -> Embeddings:
    """What `write_embeddings` wrote: a column that does not fit is damage."""
    if value.get("embeddings") is None:
        raise DataError("it holds no embeddings", hint="write it again")
    classes = () if value.get("classes") is None else to_text(value["classes"], "classes")
    labels = value.get("labels")
    if labels is not None:
        labels, classes = to_labels(labels, classes)
    model = foreign_json(value.get("model"))
    return Embeddings(
        vectors=to_float32(value["embeddings"], "embeddings"),
        labels=labels,
        classes=classes,
        paths=_optional(value.get("paths"), "paths", to_text),
        indices=_optional(value.get("indices"), "indices", to_int64),
        uncertainty=_optional(value.get("uncertainty"), "uncertainty", to_float32),
        model=model,
        space=space_from(value, model),
        preprocess=foreign_json(value.get("preprocess")),
        dataset=foreign_json(value.get("dataset")),
    )


def _foreign(value: Any) -> Embeddings:
    """A stranger's: the vectors, and whatever beside them fits."""
    layout = layout_of(value)
    beside = columns_beside(layout.columns, len(layout.matrix))
    return Embeddings(
        vectors=to_float32(layout.matrix, "embeddings"),
        labels=beside.labels,
        classes=beside.classes,
        paths=beside.paths,
        indices=beside.indices,
        uncertainty=beside.uncertainty,
        model=foreign_json(layout.columns.get("model")),
        preprocess=foreign_json(layout.columns.get("preprocess")),
        dataset=foreign_json(layout.columns.get("dataset")),
        notes=(*layout.notes, *beside.notes),
    )


def _check_embeddings(embeddings: Embeddings) -> None:
    vectors, labels = embeddings.vectors, embeddings.labels
    if vectors.ndim != 2 or 0 in vectors.shape or vectors.dtype != np.float32:
        raise DataError(f"embeddings are {vectors.dtype} {list(vectors.shape)}, expected float32 [N, D] with N, D > 0")
    check_finite(vectors, "the embeddings")
    if embeddings.space is not None and embeddings.space.width != vectors.shape[1]:
        raise DataError(f"the space is of {embeddings.space.width} numbers, the embeddings have {vectors.shape[1]}")
    for name in ("labels", "paths", "indices", "uncertainty"):
        check_length(getattr(embeddings, name), len(vectors), name)
    if labels is not None and (labels < UNKNOWN_LABEL).any():
        raise DataError(f"a label is {labels.min()}; {UNKNOWN_LABEL} means unknown, others count from 0")
    if labels is not None and embeddings.classes and labels.max() >= len(embeddings.classes):
        raise DataError(f"a label is {labels.max()} but only {len(embeddings.classes)} classes are named")


def _check_neighbors(neighbors: NeighborsFile) -> None:
    indices, distances = neighbors.indices, neighbors.distances
    if indices.ndim != 2 or 0 in indices.shape or indices.shape != distances.shape:
        shapes = f"indices {list(indices.shape)} and distances {list(distances.shape)}"
        raise DataError(f"{shapes} are not two tables [N, K] of one size", hint="write the file again with `clr knn`")
    if (indices < 0).any():
        raise DataError(f"an index is {indices.min()}; they count from 0", hint="write the file again with `clr knn`")
    check_finite(distances, "the distances")
    check_length(neighbors.paths, len(indices), "paths")


def _optional(value: Any, name: str, convert: Callable[[Any, str], Column]) -> Column | None:
    return None if value is None else convert(value, name)


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _without_none(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value is not None}

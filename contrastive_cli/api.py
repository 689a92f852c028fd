"""What `import contrastive_cli as clr` offers beside losses and views: a few names that stay as they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.runs import find_run
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.embeddings.files import read_embeddings as read_file
from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors as search
from contrastive_cli.embeddings.similarity import cosine_matrix, unit_rows
from contrastive_cli.image_encoder import ImageEncoder


def load(name: str | os.PathLike[str] | None = None, *, device: str = "auto") -> ImageEncoder:
    """Load the encoder of a run.

    Args:
        name: The directory of the run, or its name under `runs/`; None for the newest finished one.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        RunError: If there is no such run, or it has no intact checkpoint.
    """
    from contrastive_cli.services.inference.model import load_model

    return ImageEncoder(load_model(find_run(None if name is None else os.fspath(name)), device=device))


def similarity(a: ArrayLike, b: ArrayLike | None = None) -> float | NDArray[np.float64]:
    """Cosine similarities, in [-1, 1]; a zero vector is similar to nothing (0).

    Args:
        a: A vector [D], or vectors [N, D].
        b: A vector [D] or vectors [M, D]; None compares the vectors of `a` among themselves.

    Returns:
        The number for two vectors; else float64 [N, M], with one row or column for a vector alone, or [N, N].

    Raises:
        DataError: If the widths differ or a value is not finite.
    """
    if b is None:
        return cosine_matrix(a)
    first, second = (np.asarray(vectors, dtype=np.float64) for vectors in (a, b))
    if first.shape[-1:] != second.shape[-1:] or not {first.ndim, second.ndim} <= {1, 2}:
        raise DataError(f"cannot compare vectors of shapes {first.shape} and {second.shape}")
    if first.ndim == second.ndim == 1:
        return float(cosine_matrix(np.stack([first, second]))[0, 1])  # as `clr similarity` computes it
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("a vector holds values that are not finite", hint="embed the image again")
    return np.clip(unit_rows(np.atleast_2d(first)) @ unit_rows(np.atleast_2d(second)).T, -1, 1)


def nearest_neighbors(
    vectors: ArrayLike, k: int = 20, *, metric: Metric = "cosine", queries: ArrayLike | None = None
) -> Neighbors:
    """The k exact nearest rows, nearest first, of each row or of each query; `indices` and `distances`, [N, k].

    Args:
        vectors: [N, D].
        k: From 1 to N - 1, or to N with queries.
        metric: cosine or euclidean.
        queries: [Q, D]; None searches each vector among the others.

    Raises:
        ValueError: If k is out of range or the metric is unknown.
        DataError: If an array is not two-dimensional and real, holds values that are not finite, or D differs.
    """
    asked = None if queries is None else np.asarray(queries)
    return search(np.asarray(vectors), k=k, metric=metric, queries=asked)


def read_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read embeddings, ours or other tools', without running anything of the file.

    Returns:
        The arrays `vectors` [N, D], `labels`, `paths`, ..., and by `frame()` a data frame of pandas or pyarrow.

    Raises:
        DataError: If the file is missing, damaged, or holds no embeddings.
        UnsafeFileError: If reading it could run code or exhaust the machine.
    """
    return read_file(Path(path))

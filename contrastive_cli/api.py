"""What `import contrastive_cli as clr` offers beside losses and views: a few names that stay as they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.runs import RUNS, Run, find_run
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.embeddings.files import read_embeddings as read_file
from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors as search
from contrastive_cli.embeddings.similarity import cosine_matrix, unit_rows
from contrastive_cli.image_encoder import ImageEncoder


def load(
    name: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> ImageEncoder:
    """Load the encoder of a run, or one that exists already, of which a run below `runs/` is made at the first time.

    Args:
        name: The directory of a run, or its name under `runs/`; None for the newest finished one. With weights an
            encoder: resnet9, resnet18, resnet34, resnet50 or timm/NAME, or None where the weights say it;
            timm/NAME.TAG needs none.
        weights: A published name, a file, a folder, a run, or random.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        RunError: If there is no such run, or it has no intact checkpoint.
        UsageError: If there is no such encoder, it is named without weights, or weights do not say which they are of.
        DataError: If the weights cannot be had, or are not all of the encoder.
        UnsafeFileError: If reading them could run code.
    """
    from contrastive_cli.services.inference.model import load_model

    given = None if name is None else os.fspath(name)
    if weights is not None or (given is not None and _is_encoder(given)):
        from contrastive_cli.services.importing.imported import imported_run

        return ImageEncoder(
            load_model(Run(imported_run(given, None if weights is None else os.fspath(weights))), device=device)
        )
    return ImageEncoder(load_model(find_run(given), device=device))


def _is_encoder(name: str) -> bool:
    """Whether a name is an encoder's and no run's."""
    from contrastive_cli.models.encoders import ENCODERS
    from contrastive_cli.models.timm_encoders import PREFIX

    is_run = (Path(name) / "manifest.json").is_file() or (RUNS / name / "manifest.json").is_file()
    return not is_run and (name in ENCODERS or name.startswith(PREFIX))


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

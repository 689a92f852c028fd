"""From embeddings to a map: t-SNE, UMAP or PCA in two dimensions, reusing neighbors that are already known.

Both start from the PCA map, which keeps the large-scale arrangement (Kobak and Berens, 2019,
https://doi.org/10.1038/s41467-019-13056-x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Metric, ProjectionKind
from contrastive_cli.core.config import did_you_mean
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.types import CountProgress
from contrastive_cli.viz.layouts import tsne_layout, umap_layout

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]

UMAP_NEIGHBORS = 15  # umap-learn's default; it counts the point itself


def project(
    vectors: NDArray[Any],
    *,
    kind: ProjectionKind,
    seed: int,
    metric: Metric = "cosine",
    neighbors: tuple[NDArray[Any], NDArray[Any]] | None = None,
    perplexity: float = 30.0,
    progress: CountProgress | None = None,
) -> Floats:
    """Lay embeddings out in the plane; the same seed and vectors give the same map.

    Args:
        vectors: [N, D] floats, N >= 3. For the cosine metric they are scaled to unit length here.
        kind: The method.
        seed: Any integer >= 0 (PCA has no randomness).
        metric: How vectors are compared.
        neighbors: Nearest other samples, ascending: indices [N, K] and distances [N, K] of `metric` (cosine distance
            is 1 - cosine). At least `neighbors_needed(...)` columns; computed here, exactly, if None. PCA needs none.
        perplexity: The effective number of neighbors of t-SNE; lowered to (N - 1) / 3 for few samples.
        progress: Called with (steps of the layout done, all steps).

    Returns:
        Coordinates [N, 2]. All zero if the vectors do not differ.

    Raises:
        DataError: If there are fewer than three vectors, values are not finite, or the neighbors do not fit.
        ValueError: If `kind` or `metric` is unknown or the perplexity is not positive.
    """
    if kind not in ("tsne", "umap", "pca") or metric not in ("cosine", "euclidean"):
        raise ValueError(f"kind {kind!r} with metric {metric!r}: known are tsne, umap, pca and cosine, euclidean")
    prepared = _prepare(vectors, metric=metric)
    count = len(prepared)
    if np.abs(prepared).max() < 1e-6:  # rows were of length, or largest entry, one before centring: this is rounding
        return np.zeros((count, 2), np.float32)
    start = _principal_components(prepared)
    if kind == "pca":
        return start
    needed = neighbors_needed(count, kind=kind, perplexity=perplexity)
    if neighbors is None:
        graph = _nearest_neighbors(prepared, k=needed)
    else:
        graph = _given_neighbors(neighbors, count=count, k=needed, metric=metric)
    if kind == "tsne":
        perplexity = _clip_perplexity(count, perplexity)
        return tsne_layout(graph, start=start, perplexity=perplexity, seed=seed, progress=progress)
    return umap_layout(prepared, graph, start=start, seed=seed, progress=progress)


def neighbors_needed(count: int, *, kind: ProjectionKind, perplexity: float = 30.0) -> int:
    """How many neighbors per sample, itself not counted, `project` looks at for `count` samples.

    Raises:
        ValueError: If the perplexity is not positive.
    """
    if kind == "pca":
        return 0
    if kind == "umap":
        return max(1, min(UMAP_NEIGHBORS - 1, count - 2))
    return min(count - 1, int(3.0 * _clip_perplexity(count, perplexity) + 1.0))


def select_classes(
    labels: NDArray[Any],
    *,
    classes: Sequence[str],
    num_classes: int | None = None,
    names: Sequence[str] = (),
) -> Integers:
    """The indices of the samples of some classes, ascending; unknown labels (-1) are never among them.

    Args:
        labels: [N] integers.
        classes: The name of each label; labels beyond the list are named by their number.
        num_classes: Take this many classes, those with the most samples, ties by the lower label.
        names: Take the classes of these names instead.

    Raises:
        UsageError: If a name is unknown or without samples, or `num_classes` is below one.
    """
    present, counts = np.unique(labels[labels >= 0], return_counts=True)
    if names:
        known = {classes[label] if label < len(classes) else str(label): label for label in present.tolist()}
        for name in names:
            if name not in known:
                raise UsageError(f"no sample has the class {name!r}{did_you_mean(name, known)}")
        return np.flatnonzero(np.isin(labels, [known[name] for name in names]))
    if num_classes is None:
        return np.flatnonzero(labels >= 0)
    if num_classes < 1:
        raise UsageError(f"the number of classes must be at least 1, not {num_classes}")
    largest = present[np.argsort(-counts, kind="stable")[:num_classes]]
    return np.flatnonzero(np.isin(labels, largest))


def subsample(count: int, *, limit: int, seed: int) -> Integers:
    """At most `limit` of `count` indices, drawn without replacement, ascending; all of them if they fit.

    Raises:
        ValueError: If `limit` is below one.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size=limit, replace=False))


def _prepare(vectors: NDArray[Any], *, metric: Metric) -> Floats:
    """Check, scale to unit length (cosine) or to a largest entry of one, and center: [N, D] float32."""
    if vectors.ndim != 2 or len(vectors) < 3 or vectors.shape[1] < 1:
        raise DataError(f"a map needs at least 3 vectors [N, D], not an array of shape {list(vectors.shape)}")
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(vectors)} vectors hold NaN or infinity, the first is number {broken[0]}"
        )
    scale = np.abs(vectors).max(axis=1, keepdims=True) if metric == "cosine" else np.abs(vectors).max(keepdims=True)
    # The largest entry becomes one first, so that no square over- or underflows.
    scaled = (vectors / np.where(scale > 0, scale, 1)).astype(np.float32)
    if metric == "cosine":
        norms = np.linalg.norm(scaled, axis=1, keepdims=True)
        scaled /= np.where(norms > 0, norms, 1)
    return np.asarray(scaled - scaled.mean(axis=0, dtype=np.float64).astype(np.float32), np.float32)


def _principal_components(centered: Floats) -> Floats:
    """The coordinates along the two main axes, [N, 2]; each axis points to its largest loading."""
    if centered.shape[1] <= len(centered):
        _, axes = np.linalg.eigh((centered.T @ centered).astype(np.float64))  # [D, D], ascending
        loadings = axes[:, ::-1][:, :2].T
    else:
        loadings = np.linalg.svd(centered, full_matrices=False)[2][:2]
    largest = np.abs(loadings).argmax(axis=1)[:, None]
    loadings = loadings * np.sign(np.take_along_axis(loadings, largest, axis=1))
    coordinates = np.zeros((len(centered), 2), np.float32)
    coordinates[:, : len(loadings)] = centered @ loadings.T.astype(np.float32)
    return coordinates


def _clip_perplexity(count: int, perplexity: float) -> float:
    if not perplexity > 0:
        raise ValueError(f"perplexity must be positive, not {perplexity}")
    return min(perplexity, (count - 1) / 3.0)


def _nearest_neighbors(prepared: Floats, *, k: int) -> tuple[Integers, Floats]:
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(prepared).kneighbors()
    return indices.astype(np.int64), distances.astype(np.float32)


def _given_neighbors(
    neighbors: tuple[NDArray[Any], NDArray[Any]], *, count: int, k: int, metric: Metric
) -> tuple[Integers, Floats]:
    """Check neighbors from outside; returns the first k with euclidean distances of the prepared vectors."""
    indices, distances = neighbors
    if indices.shape != distances.shape or indices.ndim != 2 or len(indices) != count:
        raise DataError(f"neighbors of shape {list(indices.shape)} do not belong to {count} vectors")
    if indices.shape[1] < k:
        raise DataError(f"{indices.shape[1]} neighbors per sample are too few for this map", hint=f"compute k = {k}")
    indices, distances = indices[:, :k].astype(np.int64), distances[:, :k].astype(np.float64)
    if indices.min() < 0 or indices.max() >= count or (indices == np.arange(count)[:, None]).any():
        raise DataError(f"neighbors must be other samples, numbered 0 to {count - 1}")
    if not np.isfinite(distances).all():
        raise DataError("distances to neighbors hold NaN or infinity")
    distances = np.maximum(distances, 0.0)
    # For unit vectors |a - b|^2 = 2 (1 - cos). Euclidean maps do not depend on the overall scale.
    return indices, (np.sqrt(2.0 * distances) if metric == "cosine" else distances).astype(np.float32)

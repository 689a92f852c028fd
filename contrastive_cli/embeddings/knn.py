"""Exact nearest neighbours in numpy alone, and the weighted k-NN vote of Wu et al. 2018 (https://arxiv.org/abs/1805.01978).

Approximate indexes are left out: at the sizes this tool is made for, the exact search is a matter of seconds.
Letters: N vectors, Q queries, D dimensions, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.exact_search import TILE_VALUES, ExactSearch, Floats, Metric, read_chunks
from contrastive_cli.embeddings.self_join import TILE_ROWS
from contrastive_cli.embeddings.threads import count_threads, map_in_threads

if TYPE_CHECKING:
    from torch import Tensor

SELF_JOIN_ROWS = 4096  # from here on it pays to use the symmetry of a search of the vectors among themselves
LARGEST_VALUE = 1e150  # the square of a larger value leaves float64


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbors:
    """The k nearest of each row, nearest first, equal distances by the lower index.

    Attributes:
        indices: [Q, k] int64, rows of the searched vectors.
        distances: [Q, k] float32; cosine distance 1 - cos in [0, 2], or euclidean distance.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]


def nearest_neighbors(
    vectors: Floats,
    *,
    k: int,
    metric: Metric = "cosine",
    queries: Floats | None = None,
    progress: CountProgress | None = None,
) -> Neighbors:
    """Find the k exact nearest rows of `vectors` for each query.

    Args:
        vectors: [N, D], any float type, a memory map is read in pieces.
        k: Neighbours per query, 1 <= k <= N (N - 1 without queries).
        metric: The cosine of a zero vector (norm below 1e-150) with anything is 0, its distance 1.
        queries: [Q, D]; None searches each vector among the others, itself excluded by its index.
        progress: Called with (queries done, Q).

    Raises:
        ValueError: If k is out of range or the metric is unknown.
        DataError: If an array is not two-dimensional and real, holds values that are not finite, or D differs.
    """
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric must be 'cosine' or 'euclidean', not {metric!r}")
    _check(vectors, "vectors")
    if queries is not None:
        _check(queries, "queries")
        if queries.shape[1] != vectors.shape[1]:
            raise DataError(f"queries have {queries.shape[1]} dimensions, but vectors have {vectors.shape[1]}")
    available = len(vectors) - (queries is None)
    if not 1 <= k <= available:
        raise ValueError(f"k={k} neighbours asked, but {available} are available; choose k from 1 to {available}")
    search = ExactSearch.build(vectors, queries=queries, metric=metric)
    num_queries = len(search.queries)
    indices = np.empty((num_queries, k), np.int64)
    distances = np.empty((num_queries, k), np.float64)
    unproved: list[NDArray[np.int64]] = []
    num_candidates = min(k + k // 4 + 8, available)
    step = int(np.clip(TILE_VALUES // count_threads() // len(search.base), 16, 1024))
    blocks = [np.arange(start, min(start + step, num_queries)) for start in range(0, num_queries, step)]
    if queries is None and len(vectors) >= SELF_JOIN_ROWS and num_candidates < TILE_ROWS:
        candidates, worst = search.candidates_of_all(num_candidates, progress=progress)
        found = map_in_threads(lambda rows: search.rank(rows, candidates[rows], worst[rows], k=k), blocks)
        progress = None
    else:
        found = map_in_threads(lambda rows: search.fast(rows, k=k, num_candidates=num_candidates), blocks)
    for rows, (nearest, near, proved) in zip(blocks, found, strict=True):
        indices[rows], distances[rows] = nearest, near
        unproved.append(rows[~proved])
        if progress is not None:
            progress(int(rows[-1]) + 1, num_queries)
    missing = np.concatenate(unproved) if unproved else np.empty(0, np.int64)
    for start in range(0, len(missing), step):
        rows = missing[start : start + step]
        indices[rows], distances[rows] = search.slow(rows, k=k)
    with np.errstate(over="ignore"):  # beyond float32 a distance is inf
        return Neighbors(indices=indices, distances=distances.astype(np.float32))


def knn_vote(
    train: Tensor,
    train_labels: Tensor,
    queries: Tensor | None,
    *,
    k: int = 20,
    temperature: float = 0.1,
    num_classes: int | None = None,
) -> Tensor:
    """Predict the class of each query by the vote of its k most similar training embeddings, weight exp(cos / T).

    Args:
        train: [N, D] embeddings, any scale (normalised here).
        train_labels: [N] integers; rows labelled -1 do not vote.
        queries: [Q, D]; None predicts each row of `train` from the others (leave one out).
        k: Voters, clamped to their number.
        temperature: T > 0.
        num_classes: Length of the class axis; by default the largest training label + 1.

    Returns:
        [Q] int64 labels, on the device of `train`.

    Raises:
        ValueError: If k < 1, T <= 0 or a label is not below num_classes.
        DataError: If there is nobody to vote.
    """
    import torch
    import torch.nn.functional as F

    if k < 1 or temperature <= 0:
        raise ValueError(f"k must be at least 1 and temperature positive, not k={k} and temperature={temperature}")
    voters = torch.nonzero(train_labels >= 0).squeeze(1)
    num_voters = len(voters) - (queries is None)
    if num_voters < 1:
        raise DataError(f"{len(voters)} of {len(train)} training embeddings have a label; a k-NN vote needs more")
    labels = train_labels[voters].long()
    largest = int(labels.max())
    num_classes = largest + 1 if num_classes is None else num_classes
    if largest >= num_classes:
        raise ValueError(f"training label {largest} is not below num_classes={num_classes}")
    asked = F.normalize((train if queries is None else queries).float(), dim=1)
    bank = F.normalize(train[voters].float(), dim=1).T  # [D, N]
    predicted = []
    step = max(1, TILE_VALUES // len(voters))
    for start in range(0, len(asked), step):
        similarity = asked[start : start + step] @ bank  # [R, N]
        if queries is None:
            own = torch.arange(start, start + len(similarity), device=voters.device)[:, None] == voters
            similarity = similarity.masked_fill(own, -torch.inf)
        nearest, position = similarity.topk(min(k, num_voters), dim=1)
        weights = ((nearest - nearest[:, :1]) / temperature).exp()  # the shift keeps a low temperature finite
        votes = weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels[position], weights)
        predicted.append(votes.argmax(1))
    return torch.cat(predicted) if predicted else labels.new_empty(0)


def _check(array: Floats, name: str) -> None:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise DataError(f"{name} must be a table of real numbers [N, D], not {array.dtype} of shape {array.shape}")
    bad: list[int] = []
    for start, chunk in read_chunks(array):
        usable = (np.abs(chunk) <= LARGEST_VALUE).all(1)  # false for nan and inf too
        bad.extend((start + np.flatnonzero(~usable)[: 5 - len(bad)]).tolist())
        if len(bad) == 5:
            break
    if bad:
        raise DataError(f"{name} hold values that are not finite or beyond {LARGEST_VALUE:g}, first in rows {bad}")

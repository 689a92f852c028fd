"""The weighted k-NN vote of Wu et al. 2018 (https://arxiv.org/abs/1805.01978).

Letters: N vectors, Q queries, D dimensions, k neighbors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive_cli.core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

TILE_VALUES = 2**25  # 128 MiB of float32 similarities in a vote


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
        train: [N, D] embeddings, any scale (normalized here).
        train_labels: [N] integers; rows labeled -1 do not vote.
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

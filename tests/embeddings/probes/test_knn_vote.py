"""The weighted vote of neighbors against a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.probes import knn_vote as votes
from contrastive_cli.embeddings.probes.knn_vote import knn_vote


def slow_vote(train: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor, k: int, *, leave: bool) -> list[int]:
    predicted = []
    for number, query in enumerate(queries.double()):
        pairs = [
            (float(torch.cosine_similarity(query, row.double(), dim=0)), int(label))
            for other, (row, label) in enumerate(zip(train, labels, strict=True))
            if label >= 0 and not (leave and other == number)
        ]
        counted: dict[int, float] = {}
        for similarity, label in sorted(pairs, reverse=True)[:k]:
            counted[label] = counted.get(label, 0.0) + np.exp(similarity / 0.1)
        predicted.append(max(counted, key=lambda label: counted[label]))
    return predicted


@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize("k", [1, 5, 1000])
def test_knn_vote__matches_loop(leave: bool, k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(60, 5, generator=generator)
    labels = torch.randint(-1, 4, (60,), generator=generator)
    queries = train if leave else torch.randn(30, 5, generator=generator)
    predicted = knn_vote(train, labels, None if leave else queries, k=k, num_classes=7)
    assert predicted.tolist() == slow_vote(train, labels, queries, k, leave=leave)
    assert predicted.dtype == torch.int64


def test_knn_vote__pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    train, labels = torch.randn(80, 6, generator=generator), torch.randint(-1, 3, (80,), generator=generator)
    whole = knn_vote(train, labels, None)
    monkeypatch.setattr(votes, "TILE_VALUES", 300)
    assert torch.equal(whole, knn_vote(train, labels, None))


def test_knn_vote__low_temperature_is_finite() -> None:
    train, labels = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([0, 1])
    assert knn_vote(train, labels, torch.tensor([[0.1, 1.0]]), temperature=1e-4).tolist() == [1]


def test_knn_vote__wrong_arguments() -> None:
    train, labels = torch.eye(3), torch.tensor([0, 1, 5])
    with pytest.raises(ValueError, match="label 5"):
        knn_vote(train, labels, None, num_classes=2)
    with pytest.raises(ValueError, match="temperature"):
        knn_vote(train, labels, None, temperature=0)
    with pytest.raises(DataError, match="0 of 3"):
        knn_vote(train, torch.full((3,), -1), train)
    with pytest.raises(DataError, match="1 of 3"):
        knn_vote(train, torch.tensor([-1, -1, 2]), None)

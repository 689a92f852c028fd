from __future__ import annotations

import pytest
import torch

from contrastive_cli.embeddings.probes.class_shares import balanced_accuracy, largest_share


def test_largest_share__is_the_accuracy_of_always_naming_it() -> None:
    targets = torch.tensor([2, 0, 2, 2, 1])
    assert largest_share(targets) == float((torch.full((5,), 2) == targets).double().mean()) == 0.6


def test_balanced_accuracy__against_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 5, (200,), generator=generator).clamp(max=3)
    predictions = [torch.randint(0, 6, (200,), generator=generator) for _ in range(2)]
    recalls = [
        [float((predicted[targets == label] == label).double().mean()) for label in range(4)]
        for predicted in predictions
    ]
    expected = sum(sum(one) / 4 for one in recalls) / 2
    assert balanced_accuracy(targets, predictions) == pytest.approx(expected)


def test_balanced_accuracy__of_the_largest_class_alone_is_chance() -> None:
    targets = torch.tensor([0] * 90 + [3] * 10)
    assert balanced_accuracy(targets, [torch.zeros(100, dtype=torch.int64)]) == 0.5


@pytest.mark.parametrize(("counts", "stated"), [((5, 5), False), ((5, 6), False), ((5, 7), True), ((0, 5, 5), False)])
def test_balanced_accuracy__is_stated_where_classes_are_unequal(counts: tuple[int, ...], stated: bool) -> None:
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assert (balanced_accuracy(targets, [targets]) is not None) is stated

"""What a probe chooses, it chooses on samples that it was not fitted on, told by labels that cannot be learned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.embeddings.probes.mlp_probe import fit_mlp

CLASSES = 4


def noise(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features [N, 60] that say nothing of the labels [N]; a head that has seen them remembers all the same."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 60, generator=generator), torch.arange(count) % CLASSES


@pytest.mark.parametrize("count", [80, 200])
def test_fit_probe__labels_without_a_reason_are_not_foretold(count: int) -> None:
    features, labels = noise(count)
    probe = fit_probe(features, labels, seed=0)
    assert max(probe.held_out_accuracies)[0] < 0.45  # a quarter by chance; whoever has seen them reaches 1


def test_fit_probe__the_classifier_has_seen_all_samples() -> None:
    features, labels = noise(40)
    probe = fit_probe(features, labels, penalties=[1e-5], seed=0)
    assert probe.accuracy(features, labels) == 1


def test_fit_mlp__labels_without_a_reason_are_not_foretold() -> None:
    features, labels = noise(80)
    head = fit_mlp(features, labels, seed=0, hidden=32)
    assert head.held_out_accuracy is not None
    assert head.held_out_accuracy < 0.5


def test_fit_mlp__draws_nothing_from_the_generator_of_torch() -> None:
    features, labels = noise(40)
    before = torch.get_rng_state()
    one = fit_mlp(features, labels, seed=0, hidden=8)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    two = fit_mlp(features, labels, seed=0, hidden=8)
    assert all(torch.equal(first, second) for first, second in zip(one.parameters, two.parameters, strict=True))

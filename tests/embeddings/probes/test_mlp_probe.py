"""The MLP head against scikit-learn's, and where a linear head must fail."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.embeddings.probes.mlp_probe import fit_mlp


def exclusive_or(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Two informative features of four; the class is whether their signs differ."""
    features = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return features, ((features[:, 0] > 0) != (features[:, 1] > 0)).long()


def test_fit_mlp__learns_what_no_linear_head_can() -> None:
    features, labels = exclusive_or(600, seed=0)
    unseen, targets = exclusive_or(500, seed=1)
    head = fit_mlp(100 + 5 * features, labels, seed=0, hidden=32)
    accuracy = (head.predict(100 + 5 * unseen) == targets).float().mean()
    assert accuracy > 0.9
    assert fit_probe(features, labels, seed=0).accuracy(unseen, targets) < 0.65
    assert head.held_out_accuracy == pytest.approx(float(accuracy), abs=0.08)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # sklearn's may stop before it has converged
def test_fit_mlp__as_good_as_sklearn_and_the_same_twice() -> None:
    data = load_digits()
    features, labels = torch.from_numpy(data.data).float(), torch.from_numpy(data.target)
    train = torch.arange(len(labels)) % 6 == 0
    counts: list[tuple[int, int]] = []
    head = fit_mlp(features[train], labels[train], seed=0, hidden=32, progress=lambda *at: counts.append(at))
    accuracy = (head.predict(features[~train]) == labels[~train]).float().mean()
    standard = (features - head.mean) / head.scale
    other = MLPClassifier((32,), random_state=0, max_iter=100).fit(standard[train], labels[train])
    assert accuracy > other.score(standard[~train], labels[~train]) - 0.01
    assert head.weight_decay in (0.03, 0.3, 3.0)
    assert [done for done, _ in counts] == sorted(done for done, _ in counts)
    again = fit_mlp(features[train], labels[train], seed=0, hidden=32)
    assert all(torch.equal(one, two) for one, two in zip(head.parameters, again.parameters, strict=True))


def test_fit_mlp__one_sample_a_class_and_what_cannot_be_fitted() -> None:
    features, labels = torch.eye(3), torch.arange(3)
    head = fit_mlp(features, labels, seed=0, hidden=16)
    assert head.held_out_accuracy is None
    assert head.steps == head.total_steps
    assert torch.equal(head.predict(features), labels)
    with pytest.raises(DataError, match="no label"):
        fit_mlp(features, torch.tensor([0, 1, -1]), seed=0)
    with pytest.raises(DataError, match="two classes"):
        fit_mlp(features, torch.zeros(3, dtype=torch.int64), seed=0)

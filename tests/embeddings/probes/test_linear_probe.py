"""The penalty of a linear probe is chosen on held-out samples, and serves all of them."""

from __future__ import annotations

import pytest
import torch
from blobs import blobs

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.probes import linear_probe
from contrastive_cli.embeddings.probes.label_subsets import stratified_folds
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.embeddings.probes.logistic_regression import fit_linear


def test_fit_probe__chooses_a_good_penalty() -> None:
    features, labels = blobs(600, 100, 4, spread=0.25)
    test_features, test_labels = blobs(2000, 100, 4, seed=1, spread=0.25)
    probe = fit_probe(features, labels, seed=0)
    accuracies = [
        fit_linear(features, labels, penalties=[penalty], num_classes=4).logits(test_features)[0].argmax(1)
        for penalty in linear_probe.DEFAULT_PENALTIES
    ]
    scores = [float((predicted == test_labels).double().mean()) for predicted in accuracies]
    assert probe.accuracy(test_features, test_labels) > max(scores) - 0.02 > min(scores)
    assert max(probe.held_out_accuracies)[1] == probe.penalty


def test_fit_probe__holds_out_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_probe, "ENOUGH_HELD_OUT", 30)
    features, labels = blobs(400, 5, 4)
    fold = stratified_folds(labels, num_folds=10, seed=3) == 0
    heads = fit_linear(features[~fold], labels[~fold], penalties=[0.01, 1.0], num_classes=4)
    expected = (heads.logits(features[fold]).argmax(2) == labels[fold]).double().mean(1)
    probe = fit_probe(features, labels, penalties=[0.01, 1.0], seed=3)
    assert [accuracy for accuracy, _ in probe.held_out_accuracies] == pytest.approx(expected.tolist())


def test_fit_probe__the_largest_of_equally_good_penalties_wins() -> None:
    features, labels = blobs(60, 6, 3, spread=8)
    probe = fit_probe(features, labels, penalties=[1e-3, 1e-1, 1e-2], seed=0)
    assert [accuracy for accuracy, _ in probe.held_out_accuracies] == [1.0, 1.0, 1.0]
    assert probe.penalty == 1e-1


def test_fit_probe__one_sample_a_class() -> None:
    features, labels = blobs(5, 8, 5, spread=5)
    probe = fit_probe(features, labels, seed=0)
    assert probe.held_out_accuracies == ()
    assert probe.penalty == pytest.approx(0.0774, abs=1e-4)
    assert probe.accuracy(features, labels) == 1.0


def test_fit_probe__seeded() -> None:
    features, labels = blobs(120, 10, 3)
    first, again = (fit_probe(features, labels, seed=5) for _ in range(2))
    assert first.penalty == again.penalty
    assert torch.equal(first.heads.weights, again.heads.weights)


def test_probe__accuracy_leaves_out_the_unlabeled() -> None:
    features, labels = blobs(90, 6, 3, spread=4)
    probe = fit_probe(features, labels, seed=0)
    assert torch.equal(probe.predict(features), labels)
    half = torch.where(torch.arange(90) < 45, labels, -1)
    assert probe.accuracy(features, half) == 1.0
    with pytest.raises(DataError, match="no sample"):
        probe.accuracy(features, torch.full((90,), -1))
    with pytest.raises(DataError, match="6 features"):
        probe.predict(features[:, :5])

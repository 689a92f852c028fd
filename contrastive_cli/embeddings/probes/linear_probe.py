"""Linear probe of frozen features with a penalty chosen on the training set.

The protocol follows appendix B.8 of SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709): the penalty is chosen
on a part of the training set, never on the test set. Left out: training the probe by SGD with augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.probes.label_subsets import stratified_folds
from contrastive_cli.embeddings.probes.logistic_regression import LinearHeads, check_training_set, fit_linear

DEFAULT_PENALTIES = tuple(10 ** (-5 + 5 * step / 9) for step in range(10))  # 1e-5 .. 1
PENALTY_WITHOUT_CHOICE = DEFAULT_PENALTIES[7]
HOLD_OUT_PARTS = 10
ENOUGH_HELD_OUT = 1000
FEW_SAMPLE_FOLDS = 5
# A head that needs more steps has next to no penalty; which penalty is best shows long before it has converged.
SEARCH_ITERATIONS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A linear classifier with the penalty that was best on held-out training samples.

    Attributes:
        penalty: The chosen one.
        held_out_accuracies: (accuracy in [0, 1], penalty) of each; empty if no class had two samples.
        heads: The classifier alone, fitted on all training samples.
    """

    penalty: float
    held_out_accuracies: tuple[tuple[float, float], ...]
    heads: LinearHeads

    def predict(self, features: Tensor) -> Tensor:
        """Features [N, D] -> labels [N] int64."""
        return self.heads.logits(features)[0].argmax(1)

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """The part of the labeled samples (label >= 0) that is predicted rightly, in [0, 1]."""
        known = labels >= 0
        if not known.any():
            raise DataError("no sample has a label, so there is no accuracy")
        predicted = self.predict(features[known])
        return float((predicted == labels[known].to(predicted.device)).double().mean())


def fit_probe(
    train_features: Tensor, train_labels: Tensor, *, penalties: Sequence[float] = DEFAULT_PENALTIES, seed: int
) -> Probe:
    """Choose the penalty on held-out training samples, then fit on all of them.

    A tenth of every class is held out. If that is fewer than 1000 samples, the accuracy of a 5-fold cross-validation
    decides instead, as a tenth of little says little. A class of one sample is never held out; if all are such, nothing
    can be compared and a fixed penalty of about 0.08 is taken. Among equals the largest penalty wins.

    Args:
        train_features: [N, D] float.
        train_labels: [N] integers >= 0.
        penalties: Candidates, > 0.
        seed: Decides what is held out.

    Raises:
        ValueError: If a penalty is not positive.
        DataError: If a label is -1, there is only one class, or a feature is not finite.
    """
    num_classes = check_training_set(train_features, train_labels, penalties=penalties)
    folds = stratified_folds(train_labels, num_folds=HOLD_OUT_PARTS, seed=seed)
    used = [0]
    if int((folds == 0).sum()) < ENOUGH_HELD_OUT:
        folds = stratified_folds(train_labels, num_folds=FEW_SAMPLE_FOLDS, seed=seed)
        used = sorted(set(folds.tolist()) - {-1})
    penalty = PENALTY_WITHOUT_CHOICE
    accuracies: tuple[tuple[float, float], ...] = ()
    if used:
        right = torch.zeros(len(penalties), device=train_features.device)
        for fold in used:
            out = (folds == fold).to(train_features.device)
            labels = train_labels.to(train_features.device)
            heads = fit_linear(
                train_features[~out],
                labels[~out],
                penalties=penalties,
                num_classes=num_classes,
                max_iterations=SEARCH_ITERATIONS,
            )
            right += (heads.logits(train_features[out]).argmax(2) == labels[out]).sum(1).to(right)
        held_out = sum(int((folds == fold).sum()) for fold in used)
        accuracies = tuple((float(count) / held_out, penalty) for count, penalty in zip(right, penalties, strict=True))
        penalty = max(accuracies)[1]
    heads = fit_linear(train_features, train_labels, penalties=[penalty], num_classes=num_classes)
    return Probe(penalty=penalty, held_out_accuracies=accuracies, heads=heads)

"""A classifier with one hidden layer on frozen features, for what a linear head cannot read off them.

Standardized features, ReLU, Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980) on mini-batches with decoupled
weight decay and a cosine schedule. How much decay, and where on the schedule to stop, is chosen on held-out training
samples; then the head is trained on all of them. Letters: N samples, D features, H hidden, C classes, L decays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.probes.label_subsets import stratified_folds
from contrastive_cli.embeddings.probes.logistic_regression import check_training_set

HIDDEN = 512
DECAYS = (0.03, 0.3, 3.0)
DECAY_WITHOUT_CHOICE = DECAYS[1]
LEARNING_RATE = 3e-3
BATCH = 256
EPOCHS = 30
LEAST_STEPS, MOST_STEPS = 200, 2000
LOOKS = 10  # at the held-out samples, evenly over the schedule
FOLDS = 5
ENOUGH_HELD_OUT = 100
BLOCK = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class MLPHead:
    """A trained head and what was chosen for it.

    Attributes:
        parameters: First weights [D, H] and biases [H], second weights [H, C] and biases [C].
        mean: [D] of the training features.
        scale: [D] standard deviation, 1 for a constant feature.
        weight_decay: The chosen one.
        steps: Where training stopped, of `total_steps`.
        total_steps: Length of the schedule.
        held_out_accuracy: Of the choice, in [0, 1]; None if no class had two samples.
    """

    parameters: tuple[Tensor, Tensor, Tensor, Tensor]
    mean: Tensor
    scale: Tensor
    weight_decay: float
    steps: int
    total_steps: int
    held_out_accuracy: float | None

    def predict(self, features: Tensor) -> Tensor:
        """Features [N, D] -> labels [N] int64."""
        stacked = tuple(parameter[None] for parameter in self.parameters)
        parts = [
            _forward(((block.to(self.mean) - self.mean) / self.scale)[None], stacked)[0].argmax(1)
            for block in torch.split(features, BLOCK)
        ]
        return torch.cat(parts)


def fit_mlp(
    train_features: Tensor,
    train_labels: Tensor,
    *,
    seed: int,
    hidden: int = HIDDEN,
    decays: Sequence[float] = DECAYS,
    progress: CountProgress | None = None,
) -> MLPHead:
    """Choose the decay and the number of steps on held-out training samples, then train on all of them.

    A fifth of every class is held out; if that is fewer than 100 samples, 5-fold cross-validation decides. Among
    equals the larger decay, then the later stop wins. The same seed gives the same head.

    Args:
        train_features: [N, D] float.
        train_labels: [N] integers >= 0.
        seed: Of what is held out, the first weights and the order of the batches.
        hidden: H.
        decays: L candidates, >= 0.
        progress: Called with (steps done, steps in all).

    Raises:
        DataError: If a label is -1, there is only one class, or a feature is not finite.
    """
    num_classes = check_training_set(train_features, train_labels, penalties=[1.0])
    mean, scale = _mean_and_scale(train_features.float())
    standard = (train_features.float() - mean) / scale
    labels = train_labels.to(standard.device).long()
    total = min(MOST_STEPS, max(LEAST_STEPS, math.ceil(EPOCHS * len(labels) / BATCH)))
    heads = _Heads(num_classes=num_classes, hidden=hidden, total=total, seed=seed)
    stop, work = _choose_stop(standard, labels, heads, decays=decays, progress=progress)
    training = _train(standard, labels, heads, [stop.decay])
    parameters = next(training)[1]  # updated in place by the steps that follow
    for step, _ in zip(range(2, stop.steps + 1), training, strict=False):
        if progress is not None:
            progress(work - total + step, work)
    first, first_bias, second, second_bias = (parameter[0].detach() for parameter in parameters)
    return MLPHead(
        parameters=(first, first_bias, second, second_bias),
        mean=mean,
        scale=scale,
        weight_decay=stop.decay,
        steps=stop.steps,
        total_steps=total,
        held_out_accuracy=stop.accuracy,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Heads:
    """What all heads of one `fit_mlp` have in common: C, H, the length of the schedule, the seed."""

    num_classes: int
    hidden: int
    total: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stop:
    """The weight decay, the number of steps, and the held-out accuracy of both; None if nothing was held out."""

    decay: float
    steps: int
    accuracy: float | None


def _mean_and_scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """Of each dimension of [N, D], both [D]; the scale of a constant dimension is 1."""
    mean, deviation = features.mean(0), features.std(0, correction=0)
    varies = deviation > 1e-6 * mean.abs().clamp_min(1e-6)
    return mean, torch.where(varies, deviation, torch.ones_like(deviation))


def _choose_stop(
    features: Tensor, labels: Tensor, heads: _Heads, *, decays: Sequence[float], progress: CountProgress | None
) -> tuple[_Stop, int]:
    """Try each decay on held-out samples, and look ten times on the way; also the steps that `fit_mlp` has to take."""
    folds = stratified_folds(labels, num_folds=FOLDS, seed=heads.seed).to(labels.device)
    tried = sorted(set(folds.tolist()) - {-1})
    if int((folds == 0).sum()) >= ENOUGH_HELD_OUT:
        tried = [0]
    work = heads.total * (len(tried) + 1)
    if not tried:  # no class has two samples
        return _Stop(decay=DECAY_WITHOUT_CHOICE, steps=heads.total, accuracy=None), work

    # Samples of the held-out folds that a head of each decay gets right, at each look.
    num_right = torch.zeros(len(decays), LOOKS)
    for number, fold in enumerate(tried):
        out = folds == fold
        for step, parameters in _train(features[~out], labels[~out], heads, decays):
            if step * LOOKS % heads.total < LOOKS:
                predicted = _forward(features[out].expand(len(decays), -1, -1), parameters).argmax(2)
                num_right[:, step * LOOKS // heads.total - 1] += (predicted == labels[out]).sum(1).cpu()
            if progress is not None:
                progress(number * heads.total + step, work)

    # Among equals the larger decay wins, then the later look.
    ranked = ((float(num_right[row, look]), decay, look) for row, decay in enumerate(decays) for look in range(LOOKS))
    most_right, decay, look = max(ranked)
    held_out = sum(int((folds == fold).sum()) for fold in tried)
    steps = math.ceil((1 + look) * heads.total / LOOKS)
    return _Stop(decay=decay, steps=steps, accuracy=most_right / held_out), work


def _train(
    features: Tensor, labels: Tensor, heads: _Heads, decays: Sequence[float]
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Train one head per decay side by side; yields the steps done and the parameters, each [L, ...]."""
    generator = torch.Generator().manual_seed(heads.seed)
    count, width = features.shape
    hidden, num_classes = heads.hidden, heads.num_classes
    start = (
        (2 * torch.rand(width, hidden, generator=generator) - 1) / math.sqrt(width),
        torch.zeros(hidden),
        (2 * torch.rand(hidden, num_classes, generator=generator) - 1) / math.sqrt(hidden),
        torch.zeros(num_classes),
    )
    # All heads begin alike. Adam is elementwise, so stacked heads train as if each were alone.
    parameters = tuple(torch.stack([tensor.to(features.device)] * len(decays)).requires_grad_() for tensor in start)
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=features.device.type in ("cpu", "cuda"))
    strengths = torch.tensor(decays, device=features.device)[:, None, None]
    order = torch.zeros(0, dtype=torch.int64)
    for step in range(heads.total):
        if len(order) < min(BATCH, count):
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        batch, order = order[:BATCH].to(features.device), order[BATCH:]
        rate = LEARNING_RATE * (1 + math.cos(math.pi * step / heads.total)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        logits = _forward(features[batch].expand(len(decays), -1, -1), parameters)  # [L, B, C]
        losses = F.cross_entropy(logits.flatten(0, 1), labels[batch].repeat(len(decays)), reduction="sum")
        (losses / len(batch)).backward()
        with torch.no_grad():
            for weights in parameters[::2]:
                weights.mul_(1 - rate * strengths)
        optimizer.step()
        yield step + 1, parameters


def _forward(features: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Standardized [L, N, D] -> logits [L, N, C]."""
    first, first_bias, second, second_bias = parameters
    with torch.set_grad_enabled(first.requires_grad and torch.is_grad_enabled()):
        return F.relu(features @ first + first_bias[:, None]) @ second + second_bias[:, None]

"""Linear classifiers: multinomial logistic regression by full-batch L-BFGS, one head per penalty, all in one sweep.

Letters: N samples, D features, R dimensions that they span, C classes, L penalties, A penalties not yet converged.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.probes.lbfgs import Evaluation, Minimum, minimize

LOGITS_PER_BLOCK = 2**21
MANY_SAMPLES = 8  # for each feature
PARAMETERS_AT_ONCE = 2**20  # of the heads that are fitted together; L-BFGS remembers some twenty times as many


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearHeads:
    """One linear classifier per penalty; the standardization of the training features belongs to it.

    Attributes:
        penalties: L values.
        weights: [L, C, D] float32, for standardized features; zero for a class without training samples.
        biases: [L, C] float32; -inf for a class without training samples, the limit of its maximum likelihood.
        mean: [D] float32 of the training features.
        scale: [D] float32 standard deviation, 1 for a constant feature.
        gradient_norms: [L] float64, 2-norm of the objective's gradient at the end.
        iterations: [L] int64.
    """

    penalties: tuple[float, ...]
    weights: Tensor
    biases: Tensor
    mean: Tensor
    scale: Tensor
    gradient_norms: Tensor
    iterations: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Raw features [N, D] -> logits [L, N, C]."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise DataError(f"the probe reads {len(self.mean)} features, not an array of shape {tuple(features.shape)}")
        standard = (features.to(self.mean) - self.mean) / self.scale
        return standard @ self.weights.mT + self.biases[:, None]


def fit_linear(
    features: Tensor,
    labels: Tensor,
    *,
    penalties: Sequence[float],
    num_classes: int,
    max_iterations: int = 500,
    tolerance: float = 1e-4,
) -> LinearHeads:
    """Minimize mean cross-entropy + penalty / 2 * ||W||^2 for every penalty; W acts on standardized features.

    The bias is not penalized. Features are rotated to their principal axes, which leaves the objective as it is and
    makes its Hessian nearly diagonal; the data are float32, sums and steps float64.

    Args:
        features: [N, D] float.
        labels: [N] integers in [0, num_classes).
        penalties: L values > 0; each is fitted on its own, though one product serves as many as the memory allows.
        num_classes: C.
        max_iterations: Steps per penalty.
        tolerance: 2-norm of the gradient at which a penalty is done.

    Raises:
        ValueError: If a penalty is not positive or a label is not below num_classes.
        DataError: If a label is -1, there is only one class, or a feature is not finite.
    """
    if check_training_set(features, labels, penalties=penalties) > num_classes:
        raise ValueError(f"label {int(labels.max())} is not below num_classes={num_classes}")
    data = features.detach().cpu() if features.device.type == "mps" else features.detach()  # mps has no float64
    mean, scale = _moments(data)
    standard = (data.float() - mean) / scale
    targets = labels.to(data.device).long()
    present = targets.bincount(minlength=num_classes).nonzero().flatten()  # the other classes take no part
    variances, rotated, back = _principal_axes(standard)
    objective = _CrossEntropy(
        rotated=rotated,
        targets=torch.searchsorted(present, targets),
        variances=torch.cat([variances.clamp_min(0), variances.new_ones(1)]),
        penalties=torch.tensor(penalties, dtype=torch.float64, device=data.device),
        num_classes=len(present),
    )
    minima = _minima(objective, max_iterations=max_iterations, tolerance=tolerance)
    fitted = torch.cat([found.points for found in minima]).view(len(penalties), len(present), -1)  # [L, C, R + 1]
    weights = standard.new_zeros(len(penalties), num_classes, standard.shape[1])
    biases = standard.new_full((len(penalties), num_classes), -torch.inf)
    weights[:, present] = functools.reduce(torch.matmul, back, fitted[..., :-1]).float()
    biases[:, present] = fitted[..., -1].float()
    return LinearHeads(
        penalties=tuple(penalties),
        weights=weights,
        biases=biases,
        mean=mean,
        scale=scale,
        gradient_norms=torch.cat([found.gradient_norms for found in minima]),
        iterations=torch.cat([found.iterations for found in minima]),
    )


def check_training_set(features: Tensor, labels: Tensor, *, penalties: Sequence[float]) -> int:
    """Refuse what cannot be fitted; returns the largest label + 1."""
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"penalties must be positive, not {list(penalties)}")
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise DataError(f"features {tuple(features.shape)} and labels {tuple(labels.shape)} are not [N, D] and [N]")
    unlabeled = int((labels < 0).sum())
    if unlabeled:
        raise DataError(f"{unlabeled} of {len(labels)} samples have no label", hint="leave them out of the probe")
    if int(labels.min()) == int(labels.max()):
        raise DataError(f"all {len(labels)} samples are of class {int(labels.min())}; a probe needs two classes")
    bad = torch.nonzero(~features.isfinite().all(1)).flatten()[:5].tolist()
    if bad:
        raise DataError(f"features are not finite, first in rows {bad}")
    return int(labels.max()) + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _CrossEntropy:
    """The objective of all heads, in the rotated features [N, R]; a point is [C, R + 1] flat, the bias last."""

    rotated: Tensor
    targets: Tensor
    variances: Tensor  # [R + 1], of the rotated features and of the bias
    penalties: Tensor
    num_classes: int

    def __call__(self, points: Tensor, problems: Tensor) -> Evaluation:
        heads = points.view(len(points), self.num_classes, -1)  # [A, C, R + 1]
        rows = heads.flatten(0, 1).float()
        losses = points.new_zeros(len(points))
        gradients, spread = torch.zeros_like(heads), points.new_zeros(heads.shape[:2])
        step = max(256, LOGITS_PER_BLOCK // len(rows))
        for start in range(0, len(self.rotated), step):
            block, target = self.rotated[start : start + step], self.targets[start : start + step]
            logits = torch.addmm(rows[:, -1:], rows[:, :-1], block.T).view(*heads.shape[:2], -1)  # [A, C, n]
            index = target.expand(len(points), 1, -1)
            logits -= logits.amax(1, keepdim=True)
            right = logits.gather(1, index)
            probabilities = logits.exp_()
            totals = probabilities.sum(1, keepdim=True)
            losses += (totals.log() - right).sum((1, 2), dtype=torch.float64)
            probabilities /= totals
            spread += probabilities.sum(2) - probabilities.square().sum(2)
            residuals = probabilities.scatter_add_(1, index, -torch.ones_like(right))
            gradients[..., :-1] += (residuals.flatten(0, 1) @ block).view(*heads.shape[:2], -1)
            gradients[..., -1] += residuals.sum(2)
        ridge = self.penalties[problems, None, None].expand(-1, 1, heads.shape[2]).clone()
        ridge[..., -1] = 0  # the bias is free
        num_samples = len(self.rotated)
        curvatures = (spread / num_samples)[..., None].clamp_min(1e-8) * self.variances + ridge
        return Evaluation(
            values=losses / num_samples + 0.5 * (ridge * heads.square()).sum((1, 2)),
            gradients=(gradients / num_samples + ridge * heads).flatten(1),
            curvatures=curvatures.expand_as(heads).flatten(1),
        )


def _minima(objective: _CrossEntropy, *, max_iterations: int, tolerance: float) -> list[Minimum]:
    """Of all penalties in their order, as many at once as `PARAMETERS_AT_ONCE` allows."""
    num_parameters = objective.num_classes * len(objective.variances)
    minima = []
    for some in torch.split(objective.penalties, max(1, PARAMETERS_AT_ONCE // num_parameters)):
        start = objective.variances.new_zeros(len(some), num_parameters)
        part = replace(objective, penalties=some)
        minima.append(minimize(part, start, max_iterations=max_iterations, tolerance=tolerance))
    return minima


def _principal_axes(standard: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """What the samples span: variances [R] in float64, the samples there [N, R] in float32, and the way back.

    The way back is matrices in float64, whose product [R, D] has orthonormal rows. The weights have no part outside the
    span at their optimum, since it would cost a penalty and change no logit. With many samples a product in float64
    costs more than it saves, and one in float32 cannot tell an empty dimension from a narrow one, so all D stay.
    """
    num_samples, num_features = standard.shape
    if num_samples >= MANY_SAMPLES * num_features:
        variances, axes = torch.linalg.eigh((standard.T @ standard).double() / num_samples)
        return variances, standard @ axes.float(), (axes.T,)
    data = standard.double()
    wide = num_samples < num_features
    squares, vectors = torch.linalg.eigh(data @ data.T if wide else data.T @ data)
    spanned = squares > 1e-12 * squares[-1]
    squares, vectors = squares[spanned], vectors[:, spanned]
    if not wide:
        return squares / num_samples, standard @ vectors.float(), (vectors.T,)
    lengths = squares.sqrt()  # the samples along their axes are vectors * lengths; the axes themselves are never made
    return squares / num_samples, (vectors * lengths).float(), ((vectors / lengths).T, data)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [D] in float32; 1 where rounding alone makes a feature vary."""
    mean = features.mean(0, dtype=torch.float64)
    deviation = (features.double() - mean).square().mean(0).sqrt()
    constant = deviation <= 1e-6 * mean.abs()
    return mean.float(), torch.where(constant, 1.0, deviation).float()

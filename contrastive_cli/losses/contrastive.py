"""NT-Xent (SimCLR, Chen et al. 2020) and SupCon (Khosla et al. 2020) in linear memory.

Both split into a positive term, which is linear in the batch, and the log-partition over all other rows, which is
not. The latter works on row chunks and makes its gradient in the forward pass: three matrix products in all, and never
an [M, M] matrix. Left out: queues, and gathering rows from other processes.
https://arxiv.org/abs/2002.05709, https://arxiv.org/abs/2004.11362
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Similarities held at once, by device type. On a CPU the chunk should stay near the caches, on a GPU it should fill it.
CHUNK_ENTRIES = {"cpu": 2**20, "cuda": 2**27}
MIN_CHUNK_ROWS = 128


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float, decoupled: bool = False) -> Tensor:
    """Normalized temperature-scaled cross-entropy of two views; inside autocast it computes in float32.

    Args:
        z1: Projections of view 1, [N, D] floating, any scale (normalized here).
        z2: Projections of view 2, [N, D]; row i of both is the same image.
        temperature: Divides the cosine similarities; > 0.
        decoupled: Leave the positive out of the denominator (DCL, Yeh et al. 2021, https://arxiv.org/abs/2110.06848).

    Returns:
        Scalar mean over the 2N anchors, float32 (float64 for float64 input), >= 0 unless decoupled.

    Raises:
        ValueError: If temperature <= 0, N < 2, or the shapes differ or are not [N, D].

    Source: Eq. 1 and Algorithm 1 of the SimCLR paper.
    """
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(f"z1 and z2 must have one shape [N, D], not {list(z1.shape)} and {list(z2.shape)}")
    with torch.autocast(z1.device.type, enabled=False):  # autocast refuses to stack float16 on a CPU
        z = torch.stack([z1, z2])  # [2, N, D]
    return nt_xent_multiview(z, temperature=temperature, decoupled=decoupled)


def nt_xent_multiview(z: Tensor, *, temperature: float, decoupled: bool = False) -> Tensor:
    """NT-Xent with every other view of an image as a positive; equals `nt_xent` for two views.

    An anchor's term is the mean over its V-1 positives of -log softmax over the VN-1 other rows.

    Args:
        z: Projections, [V, N, D] floating, any scale (normalized here); z[:, i] are the views of image i.
        temperature: Divides the cosine similarities; > 0.
        decoupled: Leave all positives out of the denominator.

    Returns:
        Scalar mean over the VN anchors, float32 (float64 for float64 input).

    Raises:
        ValueError: If temperature <= 0 or z is not [V, N, D] with V >= 2 and N >= 2.
    """
    _check_temperature(temperature)
    if z.ndim != 3 or z.shape[0] < 2 or z.shape[1] < 2:
        raise ValueError(f"z must be [V, N, D] with at least 2 views of at least 2 images, not {list(z.shape)}")
    num_views, num_images, _ = z.shape
    with torch.autocast(z.device.type, enabled=False):  # an error of bf16 in a similarity grows by 1 / temperature
        z = F.normalize(z if z.dtype == torch.float64 else z.float(), dim=-1)
        # The sum over the other views; flip is exact where the subtraction would round.
        others = z.flip(0) if num_views == 2 else z.sum(dim=0) - z
        positive = (z * others).sum(dim=-1) / (temperature * (num_views - 1))  # [V, N]
        row = torch.arange(num_views * num_images, device=z.device)
        excluded = row[:, None]  # [VN, 1]
        if decoupled:
            excluded = row[:, None] % num_images + num_images * torch.arange(num_views, device=z.device)  # [VN, V]
        return mean_log_partition(z.flatten(0, 1), excluded, temperature=temperature) - positive.mean()


def sup_con(z: Tensor, labels: Tensor, *, temperature: float, positives: Literal["out", "in"] = "out") -> Tensor:
    """Supervised contrastive loss: all other rows of an anchor's class are its positives.

    With s the cosine similarities over the temperature, P(i) the other rows of i's class and A(i) all other rows,
    "out" is mean_i -1/|P(i)| sum_p (s_ip - log sum_A(i) exp s_ia), and "in" has the mean over P(i) inside the
    logarithm, so that in <= out. Neither has the factor temperature / base_temperature of the authors' code.
    Inside autocast it computes in float32.

    Args:
        z: Projections, [M, D] floating, any scale (normalized here), all views stacked.
        labels: [M] integers; a row of -1 matches nobody, not even another row of its own image, and only repels.
        temperature: Divides the cosine similarities; > 0.
        positives: Where the mean over the positives stands.

    Returns:
        Scalar mean over the anchors with at least one positive, float32 (float64 for float64 input); a zero with a
        graph if there is none. `count_positives` says which anchors are left out.

    Raises:
        ValueError: If temperature <= 0, M < 2, z is not [M, D] or labels not [M].

    Source: Eq. 2 and 3 of the SupCon paper.
    """
    _check_temperature(temperature)
    if z.ndim != 2 or len(z) < 2 or labels.shape != z.shape[:1]:
        raise ValueError(f"z must be [M, D] with M >= 2 and labels [M], not {list(z.shape)} and {list(labels.shape)}")
    groups, counts = _groups(labels)
    with torch.autocast(z.device.type, enabled=False):
        z = F.normalize(z if z.dtype == torch.float64 else z.float(), dim=-1)
        is_anchor = counts > 0
        weights = is_anchor.to(z.dtype)  # [M]
        itself = torch.arange(len(z), device=z.device)[:, None]
        partition = mean_log_partition(z, itself, temperature=temperature, weights=weights)
        num_anchors, num_positives = weights.sum().clamp(min=1), counts.clamp(min=1)
        if positives == "out":
            sums = torch.zeros_like(z).index_add(0, groups, z)  # [M, D], row g: the sum of group g
            positive = (z * (sums[groups] - z)).sum(dim=1) / (temperature * num_positives)
            return partition - (positive * weights).sum() / num_anchors
        kept = is_anchor.nonzero()[:, 0]  # a row without positives is nobody's positive either
        if not len(kept):
            return partition
        inner = mean_log_partition(
            z[kept],
            torch.arange(len(kept), device=z.device)[:, None],
            temperature=temperature,
            groups=groups[kept],
        )
        return partition - inner + (weights * num_positives.log()).sum() / num_anchors


def count_positives(labels: Tensor) -> Tensor:
    """How many other rows have the label of each row: [M] int64, zero for rows of -1. labels: [M] integers."""
    return _groups(labels)[1]


def _groups(labels: Tensor) -> tuple[Tensor, Tensor]:
    """A number below M for the class of each row [M], every row of -1 in one of its own, and its positives [M]."""
    rows = torch.arange(len(labels), device=labels.device)
    distinct = torch.where(labels < 0, -1 - rows, labels)
    _, groups, sizes = torch.unique(distinct, return_inverse=True, return_counts=True)
    return groups, sizes[groups] - 1


def mean_log_partition(
    z: Tensor, excluded: Tensor, *, temperature: float, weights: Tensor | None = None, groups: Tensor | None = None
) -> Tensor:
    """Weighted mean over rows i of log sum_k exp(z_i . z_k / temperature), k over all rows but the excluded ones of i.

    The part that every softmax-contrastive loss shares; the gradient costs no second pass and no [M, M] matrix.

    Args:
        z: Unit rows, [M, D] float32 or float64.
        excluded: Row indices that do not take part, [M, E] int64; row i itself belongs to them.
        temperature: Divides the similarities; > 0.
        weights: Of each row in the mean, [M] >= 0 of z's type, without gradient; equal if None. All zero gives 0.
        groups: [M] int64; only the rows of i's own group take part. All do if None.

    Returns:
        Scalar. It can be differentiated once; create_graph=True raises RuntimeError.
    """
    if weights is None:
        weights = z.new_ones(len(z))
    mean: Tensor = _MeanLogPartition.apply(z, excluded, temperature, weights, groups)
    return mean


def reference_lines(
    num_images: int, *, temperature: float, num_views: int = 2, decoupled: bool = False
) -> tuple[float, float]:
    """The two values between which a healthy NT-Xent falls during training.

    Args:
        num_images: N, images in the batch (the loss has V * N anchors).
        temperature: The temperature of the loss; > 0.
        num_views: V.
        decoupled: Whether positives are left out of the denominator, which leaves V * (N - 1) terms in it.

    Returns:
        (chance, aligned): all embeddings equal, log(VN - 1); and views equal with images orthogonal, for two views
        log(1 + (2N - 2) exp(-1 / temperature)). The latter is no lower bound: images may point apart further.

    Raises:
        ValueError: If temperature <= 0, num_images < 2 or num_views < 2.
    """
    _check_temperature(temperature)
    if num_images < 2 or num_views < 2:
        raise ValueError(f"needs at least 2 images and 2 views, not {num_images} and {num_views}")
    if decoupled:
        chance = math.log(num_views * (num_images - 1))
        return chance, chance - 1 / temperature
    chance = math.log(num_views * num_images - 1)
    aligned = math.log(num_views - 1 + num_views * (num_images - 1) * math.exp(-1 / temperature))
    return chance, aligned


class _MeanLogPartition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, excluded: Tensor, temperature: float, row_weights: Tensor, groups: Tensor | None
    ) -> Tensor:
        num_rows = z.shape[0]
        chunk_rows = _chunk_rows(num_rows, device_type=z.device.type)
        log_partition = z.new_empty(num_rows)
        total_weight = row_weights.sum().clamp(min=torch.finfo(z.dtype).tiny)
        gradient = torch.zeros_like(z) if ctx.needs_input_grad[0] else None
        scratch = z.new_empty(chunk_rows, num_rows)
        for start in range(0, num_rows, chunk_rows):
            anchors = z[start : start + chunk_rows]  # [C, D]
            weights = torch.mm(anchors / temperature, z.T, out=scratch[: len(anchors)])  # [C, M]
            weights.scatter_(1, excluded[start : start + chunk_rows], -math.inf)
            if groups is not None:
                weights.masked_fill_(groups[start : start + chunk_rows, None] != groups, -math.inf)
            largest = weights.amax(dim=1, keepdim=True)
            total = weights.sub_(largest).exp_().sum(dim=1, keepdim=True)
            log_partition[start : start + chunk_rows] = (largest + total.log()).squeeze(1)
            if gradient is not None:
                # softmax = weights / total; scaling the [C, D] factors instead saves a pass over [C, M].
                scale = row_weights[start : start + chunk_rows, None] / total
                gradient[start : start + chunk_rows].add_((weights @ z).mul_(scale))
                gradient.addmm_(weights.T, anchors * scale)
        if gradient is not None:
            ctx.save_for_backward(gradient.div_(temperature * total_weight))
        return (log_partition * row_weights).sum() / total_weight

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        # once_differentiable lets a second derivative pass, silently without this term, for a constant grad_output.
        if torch.is_grad_enabled():
            raise RuntimeError("this loss can be differentiated once only; call autograd without create_graph=True")
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None, None, None


def _chunk_rows(num_rows: int, *, device_type: str) -> int:
    entries = CHUNK_ENTRIES.get(device_type, CHUNK_ENTRIES["cuda"])
    return min(num_rows, max(MIN_CHUNK_ROWS, entries // num_rows))


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, not {temperature}")

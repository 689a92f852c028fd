"""Batch norm over the micro-batches that several processes compute at the same time.

P processes with micro-batches of m images are then one process with micro-batches of P m images, up to rounding. It is
another model than with batch norm of m images, and the number of processes belongs to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from contrastive_cli.core.types import Method
from contrastive_cli.engine.distributed import exchange, num_processes, process_rank


class SynchronizedBatchNorm(_BatchNorm):
    """Batch norm of inputs [b, C, ...] whose mean and variance in training are those of all processes.

    Every process must call it equally often. With one process it is torch's batch norm. That of torch for several
    processes (`torch.nn.SyncBatchNorm`) has no kernel for a CPU.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """[b, C, ...] -> the same shape and dtype."""
        if not self.training or num_processes() == 1:
            return super().forward(input)
        features = input.float()
        count = features.numel() // features.shape[1]
        others = [dimension for dimension in range(features.ndim) if dimension != 1]
        mean = features.mean(others)
        spread = (features - _as_channels(mean, features)).square().sum(others)
        means, spreads, counts = _Gathered.apply(torch.stack([mean, spread, torch.full_like(mean, count)])).unbind(1)
        total = counts.sum(0)
        mean = (counts * means).sum(0) / total
        variance = (spreads + counts * (means - mean).square()).sum(0) / total
        if self.track_running_stats:
            self._move(mean.detach(), (variance * total / (total - 1)).detach())
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        output = (features - _as_channels(mean, features)) * _as_channels(scale, features)
        if self.affine:
            output = output + _as_channels(self.bias, features)
        return output.to(input.dtype)

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None, "running statistics are tracked"
        assert self.running_var is not None, "running statistics are tracked"
        assert self.num_batches_tracked is not None, "running statistics are tracked"
        self.num_batches_tracked += 1
        share = 1.0 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Gathered(torch.autograd.Function):
    """What every process has, [P, ...]; backward, each gets the sum of all processes' gradients for its own."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        return torch.stack(exchange(own))

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return torch.stack([each[process_rank()] for each in exchange(gradient)]).sum(0)


def synchronize_batch_norms(method: Method) -> None:
    """Replace every batch norm of the method, in place; parameters, buffers and names stay."""
    for parent in list(method.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, _BatchNorm):
                setattr(parent, name, _synchronized(norm))


def _synchronized(norm: Any) -> SynchronizedBatchNorm:
    made = SynchronizedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, affine=norm.affine, track_running_stats=norm.track_running_stats
    )
    for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
        setattr(made, name, tensor)
    return made.train(norm.training)


def _as_channels(values: Tensor, features: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (features.ndim - 2))

"""A network that follows another one: the moving average of its weights (BYOL, MoCo, mean teacher)."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def momentum_copy(module: Module) -> Module:
    """A copy of `module`, parameters and buffers, that no gradient reaches."""
    return copy.deepcopy(module).requires_grad_(False)


def cosine_momentum(step: float, *, total_steps: int, base: float) -> float:
    """The part tau_k of the average that stays at optimizer step k of K: from `base` up to 1 along half a cosine.

    tau_k = 1 - (1 - base) (cos(pi k / K) + 1) / 2, section 3.3 of BYOL (https://arxiv.org/abs/2006.07733).

    Args:
        step: k, counted from 0; beyond `total_steps` the value stays 1.
        total_steps: K, positive.
        base: tau_0, in [0, 1].

    Raises:
        ValueError: If step < 0, total_steps < 1 or base is not in [0, 1].
    """
    if step < 0 or total_steps < 1 or not 0 <= base <= 1:
        raise ValueError(f"needs step >= 0, total_steps >= 1 and base in [0, 1], not {step}, {total_steps}, {base}")
    return 1 - (1 - base) * (math.cos(math.pi * min(1.0, step / total_steps)) + 1) / 2


@torch.no_grad()
def move_average_(average: nn.Module, module: nn.Module, *, tau: float) -> None:
    """Move the parameters of `average` in place: xi <- tau xi + (1 - tau) theta, in the format of xi.

    Keep xi in float32: near tau = 1 the increment is too small for 16 bits. Buffers are left alone: the running
    statistics of batch norm belong to the weights they were measured with, so an average in train mode gathers its own,
    and theta's would not fit it. (Its counters of batches could not be averaged at all.)

    Args:
        average: xi, made by `momentum_copy`.
        module: theta, of the same architecture, in any floating format.
        tau: The part that stays, in [0, 1].
    """
    averages: list[Tensor] = list(average.parameters())
    if averages:
        weights = [weight.to(kept.dtype) for weight, kept in zip(module.parameters(), averages, strict=True)]
        torch._foreach_lerp_(averages, weights, 1 - tau)

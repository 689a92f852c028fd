"""Optimisers: torch's own, and LARS (You et al. 2017, https://arxiv.org/abs/1708.03888) for large batches.

Left out: the trust clipping of solo-learn, whose learning rates do not carry over to other implementations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Self, overload

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from contrastive_cli.core.config import Config


class OptimConfig(Config):
    """How the weights are updated. `lr` is for a batch of 256, before it is scaled to the batch size in use."""

    name: Literal["adamw", "adam", "sgd", "lars"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    lr_scaling: Literal["none", "sqrt", "linear"] = "sqrt"
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd and lars")
    nesterov: bool = Field(default=False, description="sgd")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="adam and adamw")
    trust_coefficient: float = Field(default=1e-3, gt=0, description="lars")
    warmup_fraction: float = Field(default=0.1, ge=0, le=1, description="part of all steps")
    clip_gradient: float | None = Field(default=None, gt=0, description="largest norm of the whole gradient")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs name: sgd and a momentum above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), not {self.betas}")
        return self


def build_optimizer(model: nn.Module, config: OptimConfig, *, lr: float) -> torch.optim.Optimizer:
    """The optimiser of all trainable parameters in two groups: matrices, and vectors (biases, norms) without decay.

    Args:
        model: Its parameters should already lie on their device.
        config: Everything but the learning rate in use.
        lr: The learning rate in use, after scaling; the schedule overwrites it step by step.

    Raises:
        ValueError: If the model has no trainable parameter.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("the model has no trainable parameter")
    matrices = [parameter for parameter in trainable if parameter.ndim > 1]
    vectors = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    # One kernel per step instead of one per tensor and operation.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in trainable)
    match config.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=config.betas, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=config.betas, fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
        case "lars":
            groups[1]["adapt"] = False
            return Lars(groups, lr=lr, momentum=config.momentum, trust_coefficient=config.trust_coefficient)


class Lars(torch.optim.Optimizer):
    """SGD with momentum whose gradient is scaled, tensor by tensor, to a fixed part of the weight's norm.

    The scale is trust_coefficient * |w| / (|g| + weight_decay * |w|), where |w| and |g| are L2 norms and both not 0.

    Args:
        params: Parameters, or groups; a group with `adapt` False is plain SGD with momentum.
        lr: Global learning rate.
        momentum: Of the scaled gradient, in [0, 1).
        weight_decay: L2 penalty, part of the scaled gradient.
        trust_coefficient: eta of the paper.
        adapt: Scale the gradient.

    Source: Algorithm 1 of the paper, with torch's momentum (the learning rate outside the buffer), as in timm.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        adapt: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt": adapt,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; gradients are left as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        gradients = [weight.grad for weight in weights]
        updates = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        if group["adapt"]:
            weight_norms, gradient_norms = torch._foreach_norm(weights), torch._foreach_norm(gradients)
            scales = [
                _trust(weight_norm, gradient_norm, group["trust_coefficient"], group["weight_decay"])
                for weight_norm, gradient_norm in zip(weight_norms, gradient_norms, strict=True)
            ]
            torch._foreach_mul_(updates, scales)
        if group["momentum"] > 0:
            for weight in weights:
                self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
            buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates)
            updates = buffers
        torch._foreach_add_(weights, updates, alpha=-group["lr"])


def _trust(weight_norm: Tensor, gradient_norm: Tensor, trust_coefficient: float, weight_decay: float) -> Tensor:
    # A weight that starts at zero would never leave it, hence 1. Decided on the device: .item() would wait for the GPU.
    usable = (weight_norm > 0) & (gradient_norm > 0)
    scale = trust_coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm)
    return torch.where(usable, scale, 1.0)

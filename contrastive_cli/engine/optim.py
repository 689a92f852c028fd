"""Optimizers: torch's own, LARS for large batches, and Muon, which gets further in few steps.

LARS: You et al. 2017, https://arxiv.org/abs/1708.03888. Muon: Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/.

Left out: the trust clipping of solo-learn, whose learning rates do not carry over to other implementations.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, Self, overload

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from contrastive_cli.core.choices import Precision
from contrastive_cli.core.config import Config
from contrastive_cli.core.types import Method

# Of the quintic iteration: steepest at zero, so that five rounds bring all but tiny singular values near 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
RMS_OF_ADAMW = 0.2
TINY = 1e-7


class OptimConfig(Config):
    """How the weights are updated. `lr` is for a batch of 256, before it is scaled to the batch size in use."""

    name: Literal["adamw", "adam", "sgd", "lars", "muon"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    lr_scaling: Literal["none", "sqrt", "linear"] = "sqrt"
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd, lars and muon, which wants 0.95")
    nesterov: bool = Field(default=False, description="sgd")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="adam, adamw, and the vectors of muon")
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


def build_optimizer(
    model: Method | nn.Module, config: OptimConfig, *, lr: float, precision: Precision = "fp32"
) -> torch.optim.Optimizer:
    """The optimizer of all trainable parameters in two groups: matrices, and vectors (biases, norms) without decay.

    Args:
        model: Its parameters should already lie on their device.
        config: Everything but the learning rate in use.
        lr: The learning rate in use, after scaling; the schedule overwrites it step by step.
        precision: What Muon multiplies matrices in; weights and momenta keep their own.

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
        case "muon":
            groups[1]["orthogonal"] = False
            products = torch.bfloat16 if precision == "bf16" else torch.float32
            return Muon(groups, lr=lr, momentum=config.momentum, betas=config.betas, products=products)


class _Optimizer(torch.optim.Optimizer):
    """What torch leaves to every optimizer: the closure, and a step group by group.

    Torch's methods are wrapped for its compiler, and the wrapper imports it when first called, which takes two seconds
    of every start. No optimizer is compiled here, so they are taken as they were before they were wrapped.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)

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
        raise NotImplementedError

    def _buffer(self, weight: Tensor, name: str) -> Tensor:
        """A part of the weight's state; zeros before its first step, and made only then."""
        state = self.state[weight]
        if name not in state:
            state[name] = torch.zeros_like(weight)
        buffer: Tensor = state[name]
        return buffer


class Lars(_Optimizer):
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
            buffers = [self._buffer(weight, "momentum_buffer") for weight in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates)
            updates = buffers
        torch._foreach_add_(weights, updates, alpha=-group["lr"])


class Muon(_Optimizer):
    """Momentum made nearly orthogonal for matrices and the kernels of convolutions; AdamW for vectors.

    The update of a matrix [R, C] has all singular values near 1, times 0.2 * sqrt(max(R, C)), with which its elements
    are as large as those of AdamW's updates, so that both parts share a learning rate. Weight decay is decoupled.

    Args:
        params: Parameters, or groups; a group with `orthogonal` False is AdamW. A kernel is a matrix [out, in * h * w].
        lr: Global learning rate.
        momentum: Of the exponential mean of gradients, in [0, 1), with Nesterov's look ahead.
        betas: Of AdamW.
        eps: Of AdamW.
        weight_decay: Part of the weight, times the learning rate, that every step takes away.
        products: Number format of the products that make the update orthogonal.
        orthogonal: Whether a group's parameters are matrices.

    Source: the post above; the scale is that of Liu et al. 2025, https://arxiv.org/abs/2502.16982, section 2.2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        products: torch.dtype = torch.float32,
        orthogonal: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "orthogonal": orthogonal,
        }
        self.products = products
        super().__init__(params, defaults)

    def _step_group(self, group: dict[str, Any]) -> None:
        update = self._step_matrix if group["orthogonal"] else self._step_vector
        for weight in group["params"]:
            if weight.grad is not None:
                if group["weight_decay"] > 0:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                update(weight, weight.grad, group)

    def _step_matrix(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        mean = self._buffer(weight, "momentum_buffer")
        mean.lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(mean, group["momentum"])
        update = orthogonalized(ahead.flatten(1), products=self.products)
        scale = RMS_OF_ADAMW * math.sqrt(max(update.shape))
        weight.add_(update.view(weight.shape), alpha=-group["lr"] * scale)

    def _step_vector(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta_1, beta_2) = self.state[weight], group["betas"]
        mean, square = self._buffer(weight, "exp_avg"), self._buffer(weight, "exp_avg_sq")
        state["step"] = step = state.get("step", 0) + 1
        mean.lerp_(gradient, 1 - beta_1)
        square.lerp_(gradient.square(), 1 - beta_2)
        spread = (square / (1 - beta_2**step)).sqrt_().add_(group["eps"])
        weight.addcdiv_(mean, spread, value=-group["lr"] / (1 - beta_1**step))


def orthogonalized(matrix: Tensor, *, products: torch.dtype = torch.float32) -> Tensor:
    """The matrix [R, C] with its singular values brought near 1 (0.7 to 1.2, but tiny ones), in its own number format.

    Source: the quintic Newton-Schulz iteration of the Muon post.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    rounded = (matrix.T if tall else matrix).to(products)
    rounded = rounded / rounded.norm().clamp(min=TINY)
    linear, cubic, quintic = QUINTIC
    for _ in range(ROUNDS):
        gram = rounded @ rounded.T
        rounded = torch.addmm(rounded, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), rounded, beta=linear)
    return (rounded.T if tall else rounded).contiguous().to(matrix.dtype)


def _trust(weight_norm: Tensor, gradient_norm: Tensor, trust_coefficient: float, weight_decay: float) -> Tensor:
    # A weight that starts at zero would never leave it, hence 1. Decided on the device: .item() would wait for the GPU.
    usable = (weight_norm > 0) & (gradient_norm > 0)
    scale = trust_coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm)
    return torch.where(usable, scale, 1.0)

"""Which number format a training computes in: bfloat16 where it is both supported and faster, else float32."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Literal

import torch
import torch.nn.functional as F

from contrastive_cli.core.errors import UsageError

Precision = Literal["fp32", "bf16"]

# With bf16 instructions a CPU is about twice as fast, unless a oneDNN release falls back to a reference kernel that is
# many times slower: the line lies between, far from both, so that noise does not make two equal runs differ. Where the
# instructions are not known to be there, bf16 has to win clearly.
MIN_SPEEDUP_WITH_INSTRUCTIONS = 0.6
MIN_SPEEDUP = 1.3
PROBE_REPEATS = 5


def choose_precision(requested: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Settle "auto" for `device`; an explicit request is followed if torch can do it at all, even when it is slow.

    On a CPU "auto" times a small convolution in both formats, see `bf16_speedup`.

    Raises:
        UsageError: If bf16 is requested and torch cannot run it on `device`.
    """
    if requested == "fp32":
        return "fp32"
    if requested == "bf16":
        if not _accepts_bf16(device):
            raise UsageError(
                f"this torch cannot compute in bf16 on {device}", hint="use --precision fp32, or auto to let clr choose"
            )
        return "bf16"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu" and _has_onednn():
        line = MIN_SPEEDUP_WITH_INSTRUCTIONS if _has_bf16_instructions() else MIN_SPEEDUP
        return "bf16" if bf16_speedup(device) >= line else "fp32"
    return "fp32"


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The context in which forward passes run; for fp32 it switches an outer autocast off."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return torch.autocast(device.type, enabled=False)


def bf16_speedup(device: torch.device) -> float:
    """Time of a 3x3 convolution, forward and backward, in fp32 divided by that in bf16 autocast."""
    # A generator of its own: the choice must not move the random numbers of the training.
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 64, 16, 16, generator=generator).to(device, memory_format=torch.channels_last)
    kernel = torch.randn(64, 64, 3, 3, generator=generator).to(device, memory_format=torch.channels_last)
    images.requires_grad_()
    kernel.requires_grad_()
    fp32, bf16 = float("inf"), float("inf")
    for _ in range(PROBE_REPEATS + 1):  # in turns, and the best of each: a busy machine must not tip the scales
        fp32 = min(fp32, _seconds(images, kernel, precision="fp32"))
        bf16 = min(bf16, _seconds(images, kernel, precision="bf16"))
    return fp32 / bf16


def _seconds(images: torch.Tensor, kernel: torch.Tensor, *, precision: Precision) -> float:
    start = time.perf_counter()
    with torch.enable_grad(), autocast(images.device, precision):
        loss = F.conv2d(images, kernel, padding=1).sum()
    torch.autograd.grad(loss, [images, kernel])
    return time.perf_counter() - start


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())


def _accepts_bf16(device: torch.device) -> bool:
    try:
        with autocast(device, "bf16"):
            torch.mm(torch.ones(2, 2, device=device), torch.ones(2, 2, device=device))
    except RuntimeError:
        return False
    return True


def _has_bf16_instructions() -> bool:
    # The older torch releases that clr accepts cannot tell; then the probe alone decides.
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))

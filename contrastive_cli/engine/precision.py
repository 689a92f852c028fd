"""Which number format a training computes in: bfloat16 where the processor has instructions for it, else float32."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from contrastive_cli.core.choices import AskedPrecision, Precision
from contrastive_cli.core.errors import UsageError
from contrastive_cli.engine.distributed import from_first

BF16_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "sve_bf16", "svebf16"})
# With its instructions bf16 is about twice as fast or more. Some oneDNN releases fall back to a reference kernel all
# the same, which is many times slower than fp32: the line lies far from both.
LEAST_SPEEDUP = 0.25
PROBE_REPEATS = 3


def choose_precision(requested: AskedPrecision, device: torch.device) -> Precision:
    """Settle "auto" for `device`; an explicit request is followed if torch can do it at all, even when it is slow.

    "auto" asks what the processor is, never how fast it is just now: two trainings on one machine agree, whatever
    else it computes.

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
    return from_first(lambda: _best_precision(device))


def _best_precision(device: torch.device) -> Precision:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu" and _has_onednn() and cpu_instructions() & BF16_INSTRUCTIONS:
        return "bf16" if bf16_speedup() >= LEAST_SPEEDUP else "fp32"
    return "fp32"


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The context in which forward passes run; for fp32 it switches an outer autocast off."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return torch.autocast(device.type, enabled=False)


def cpu_instructions() -> frozenset[str]:
    """What the CPU says it can do, as far as torch or the kernel tell: names such as avx512_bf16 and amx_bf16."""
    told: Any = getattr(torch.cpu, "get_capabilities", dict)()
    if told:
        return frozenset(name for name, has in told.items() if has is True)
    if platform.system() != "Linux":
        return frozenset()
    try:  # the older torch releases that clr accepts cannot tell
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    listed = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, []))


def bf16_speedup() -> float:
    """CPU time of a 3x3 convolution on one thread, forward and backward, in fp32 divided by that in bf16 autocast.

    The time is that of this thread alone, so that it does not matter what other processes do.
    """
    # A generator of its own: the choice must not move the random numbers of the training.
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 64, 16, 16, generator=generator).to(memory_format=torch.channels_last)
    kernel = torch.randn(64, 64, 3, 3, generator=generator).to(memory_format=torch.channels_last)
    images.requires_grad_()
    kernel.requires_grad_()
    fp32, bf16 = float("inf"), float("inf")
    with _one_thread():
        for _ in range(PROBE_REPEATS + 1):  # in turns, and the best of each
            fp32 = min(fp32, _seconds(images, kernel, precision="fp32"))
            bf16 = min(bf16, _seconds(images, kernel, precision="bf16"))
    return fp32 / max(bf16, 1e-9)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(images: torch.Tensor, kernel: torch.Tensor, *, precision: Precision) -> float:
    start = time.thread_time()
    with torch.enable_grad(), autocast(images.device, precision):
        loss = F.conv2d(images, kernel, padding=1).sum()
    torch.autograd.grad(loss, [images, kernel])
    return time.thread_time() - start


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())


def _accepts_bf16(device: torch.device) -> bool:
    try:
        with autocast(device, "bf16"):
            torch.mm(torch.ones(2, 2, device=device), torch.ones(2, 2, device=device))
    except RuntimeError:
        return False
    return True

"""Schedules as pure functions of the optimizer step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math


def warmup_cosine(step: int, *, total_steps: int, warmup_steps: int, base: float, final: float = 0.0) -> float:
    """Linear warm-up to `base`, then half a cosine down to `final`.

    The first step already learns (base / warmup_steps); step `warmup_steps` has `base`, and so has the last step of the
    warm-up; `final` is reached at `total_steps`, one step after the last.

    Args:
        step: Optimizer step, counted from 0; beyond `total_steps` the value stays `final`.
        total_steps: Steps of the whole training.
        warmup_steps: Steps of the warm-up, in [0, total_steps].
        base: The value after the warm-up.
        final: The value at the end.

    Raises:
        ValueError: If step < 0 or warmup_steps is not in [0, total_steps].

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, Eq. 5, one period.
    """
    if step < 0 or not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"needs step >= 0 and 0 <= warmup_steps <= total_steps, not {step}, {warmup_steps}, {total_steps}"
        )
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    if step >= total_steps:
        return final
    fraction = (step - warmup_steps) / (total_steps - warmup_steps)
    return final + (base - final) * (1 + math.cos(math.pi * fraction)) / 2

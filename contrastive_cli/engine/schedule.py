"""Schedules as pure functions of the optimizer step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How far each step brings a training whose length may be corrected under way, as the clock asks for.

    Schedules are drawn over the steps that were planned at first. A step is one of these until the first correction;
    after it, each step is as large a part of what is left as the steps that are left make it. So nothing jumps at a
    correction, and the schedule ends with the last step.

    Attributes:
        segments: (first step, steps of the whole training as planned from there on), ascending; the first begins at 0.
    """

    segments: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, total_steps: int) -> Pace:
        """A training of so many steps."""
        return cls(((0, total_steps),))

    @property
    def planned_steps(self) -> int:
        """The length that was planned at first, over which schedules are drawn."""
        return self.segments[0][1]

    @property
    def total_steps(self) -> int:
        """The length as it is planned now."""
        return self.segments[-1][1]

    def position(self, step: int) -> float:
        """Where a step stands among the steps that were planned at first, in [0, planned_steps]."""
        planned = self.planned_steps
        if step >= self.total_steps:
            return planned
        ends = [*(first for first, _ in self.segments[1:]), step]
        reached = 0.0
        for (first, total), end in zip(self.segments, ends, strict=True):
            if first >= step:
                break
            reached += (min(step, end) - first) * (planned - reached) / (total - first)
        return reached

    def corrected(self, step: int, *, total_steps: int) -> Pace:
        """The pace that is this one up to `step` and has `total_steps`, more than `step`, from there on."""
        kept = tuple(segment for segment in self.segments if segment[0] < step)
        return Pace((*kept, (step, total_steps)))


def warmup_cosine(step: float, *, total_steps: int, warmup_steps: int, base: float, final: float = 0.0) -> float:
    """Linear warm-up to `base`, then half a cosine down to `final`.

    The first step already learns (base / warmup_steps); step `warmup_steps` has `base`, and so has the last step of the
    warm-up; `final` is reached at `total_steps`, one step after the last.

    Args:
        step: Optimizer step, counted from 0, or a place between two; beyond `total_steps` the value stays `final`.
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
        return base * min(step + 1, warmup_steps) / warmup_steps
    if step >= total_steps:
        return final
    fraction = (step - warmup_steps) / (total_steps - warmup_steps)
    return final + (base - final) * (1 + math.cos(math.pi * fraction)) / 2

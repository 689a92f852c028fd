"""When a training looks at itself: pure functions of the step, the pace and the seconds since the last time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from contrastive_cli.engine.schedule import Pace

LINES_PER_RUN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Cadence:
    """How often a training writes a metrics line, looks at its embedding and saves.

    Attributes:
        log_every: Steps between two lines.
        evaluations: Looks at the embedding, spread evenly over the training, the last one after its last step.
        save_every: Seconds between two checkpoints.
    """

    log_every: int
    evaluations: int
    save_every: float

    @classmethod
    def of(cls, pace: Pace, *, evaluations: int, save_every: float) -> Cadence:
        """With about `LINES_PER_RUN` lines over the steps that were planned at first."""
        log_every = max(1, pace.planned_steps // LINES_PER_RUN)
        return cls(log_every=log_every, evaluations=evaluations, save_every=save_every)

    def evaluates(self, step: int, pace: Pace) -> bool:
        """Whether to look at the embedding after `step` steps."""
        return self.evaluated(step, pace) > self.evaluated(step - 1, pace)

    def evaluated(self, step: int, pace: Pace) -> int:
        """The looks that were due by then."""
        return math.floor(pace.position(step) * self.evaluations / pace.planned_steps)

    def logs(self, step: int, pace: Pace) -> bool:
        """Whether to write a line after `step` steps."""
        return step % self.log_every == 0 or step == pace.total_steps or self.evaluates(step, pace)

    def saves(self, step: int, pace: Pace, *, seconds: float) -> bool:
        """Whether to save after `step` steps, `seconds` after the last checkpoint."""
        return step == pace.total_steps or seconds >= self.save_every

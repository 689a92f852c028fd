"""A training that has to end at a given time: how many steps are left is corrected by the clock, under way.

The schedules follow (see `engine.schedule.Pace`). Every correction is recorded in the manifest before the first step
that it rules, and the whole list is in `config.yaml` at the end: who trains by it again looks at no clock, and gets the
same bits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from contrastive_cli.engine.schedule import Pace
from contrastive_cli.services.training.cadence import Cadence

CHECKS = 50  # looks at the clock in a budget, about
AIM = 0.97  # of the budget: the last checkpoint and the end of the process take time too
LEAST_SHARE = 0.2  # of a budget is trained, however long the images took to open
TOLERANCE = 0.02  # of the steps that are left: a smaller change is not worth recording


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A step, when it was done, and how long the looks until then took."""

    now: float
    step: int
    looks: float


@dataclass(slots=True, kw_only=True)
class BudgetClock:
    """Watches how fast the steps go, and how long the looks at the embedding take.

    Attributes:
        seconds: The budget.
        started: When it began by `time.monotonic`, the opening of the images included.
        spent: Seconds of it that earlier parts of a resumed training took.
        closing: How many looks at the embedding what comes after the last step costs.
    """

    seconds: float
    started: float
    spent: float = 0.0
    closing: float = 0.0
    _end: float = 0.0
    _marks: list[_Mark] = field(default_factory=lambda: [_Mark(now=time.monotonic(), step=0, looks=0.0)])
    _looks: float = 0.0
    _look: float = 0.0

    def begin(self, step: int, *, now: float) -> None:
        """The first step of this process begins here."""
        self._end = now + self.left(now)
        self._marks = [_Mark(now=now, step=step, looks=self._looks)]

    def looked(self, seconds: float) -> None:
        """A look at the embedding took so long."""
        self._look = seconds
        self._looks += seconds

    def passed(self, now: float) -> float:
        """Seconds of the budget that have passed."""
        return self.spent + now - self.started

    def left(self, now: float) -> float:
        """Seconds for steps that begin now, and all that comes after them; a new training has some in any case."""
        least = 0.0 if self.spent else LEAST_SHARE * self.seconds
        return max(AIM * self.seconds - self.passed(now), least)

    def ends_in(self, now: float) -> float:
        """Seconds until the last step is to end."""
        return max(0.0, self._end - now)

    def corrected(self, pace: Pace, cadence: Cadence, *, step: int, now: float) -> Pace:
        """The pace that ends in time if steps and looks go on as they did for as long as is left, or the one that fits.

        So other work that passes does not end the schedule of the learning rate and begin it again, and near the end
        only the last seconds count.
        """
        is_last = step == pace.total_steps - 1  # a length that was guessed too short may come before the first check
        if now - self._marks[-1].now < self.seconds / CHECKS and not is_last:
            return pace
        while len(self._marks) > 1 and self._marks[1].now <= now - self.ends_in(now):
            del self._marks[0]
        since = self._marks[0]
        per_step = max(1e-6, now - since.now - (self._looks - since.looks)) / (step - since.step)
        looks = cadence.evaluations - cadence.evaluated(step, pace)
        left = self._end - now - self.closing * self._look
        steps = (left - looks * self._look) / per_step
        if steps < looks:  # no more than one look follows a step
            steps = left / (per_step + self._look)
        total = step + max(1, round(steps))
        self._marks.append(_Mark(now=now, step=step, looks=self._looks))
        before = pace.total_steps - step
        return pace if abs(total - step - before) <= TOLERANCE * before else pace.corrected(step, total_steps=total)

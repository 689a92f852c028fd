"""How long a training still takes: its steps and its looks at the embedding are timed apart, as they come unevenly.

An average over both is too short before a look and too long after it, and the first steps of a process are slow.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

WARM_UP: Final = 2  # steps of a process that are not counted, if there are others
LEAST_REMEMBERED: Final = 20  # steps that the estimate is made of, or the last quarter of all
REMEMBERED_SHARE: Final = 0.25


@dataclass(slots=True)
class TimeLeft:
    """Told of every step and whether a look followed it.

    Attributes:
        last: The time of the last step, by a monotonic clock; at first, when the training began.
    """

    last: float
    _steps: deque[float] = field(default_factory=deque)
    _seen: int = 0
    _first: float = 0.0
    _look: float = 0.0

    def stepped(self, now: float, *, looked: bool) -> None:
        """A step has ended at `now`, with the look and whatever else belongs to it."""
        taken, self.last = now - self.last, now
        self._seen += 1
        if looked:  # what the step alone would have taken is taken off
            self._look = max(0.0, taken - self._step_seconds()) if self._seen > 1 else 0.0
            return
        if self._seen <= WARM_UP:
            self._first = taken
            return
        self._steps.append(taken)
        if len(self._steps) > max(LEAST_REMEMBERED, REMEMBERED_SHARE * self._seen):
            self._steps.popleft()

    def seconds(self, *, steps: int, looks: float) -> float | None:
        """What `steps` more steps and `looks` more looks take; None before the first step."""
        if self._seen == 0:
            return None
        return steps * self._step_seconds() + looks * self._look

    def _step_seconds(self) -> float:
        return sum(self._steps) / len(self._steps) if self._steps else self._first

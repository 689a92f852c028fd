"""The one writer of a run's metrics: the file of lines, trackers, and how many bytes a checkpoint counts."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from contrastive_cli.core.choices import TrackerName
from contrastive_cli.core.runs import Run
from contrastive_cli.services.trackers.telling import Trackers, open_trackers
from contrastive_cli.services.training.loop_state import LoopState, cut_metrics


class RunLog:
    """Lines of `metrics.jsonl`, whose length is kept in the state of the loop."""

    def __init__(self, file: BinaryIO, trackers: Trackers, state: LoopState) -> None:
        self._file, self._trackers, self._state = file, trackers, state

    def write(self, line: Mapping[str, float]) -> None:
        """Write a record everywhere."""
        written = {key: value if math.isfinite(value) else None for key, value in line.items()}  # JSON knows no NaN
        self._file.write((json.dumps(written) + "\n").encode())
        self._trackers.scalars(line)
        self._file.flush()
        self._state.metrics_bytes = self._file.tell()

    def sync(self) -> None:
        """Bring the lines to the disk: a checkpoint must not be newer than the lines it counts."""
        os.fsync(self._file.fileno())


@contextlib.contextmanager
def open_log(run: Run, state: LoopState, *, trackers: Sequence[TrackerName]) -> Iterator[RunLog]:
    """The log of a run that goes on from `state`; lines after it, of an earlier attempt, are cut off.

    Raises:
        UsageError: If a tracker is wanted and not installed.
    """
    path = run.path / "metrics.jsonl"
    cut_metrics(path, state.metrics_bytes)
    with path.open("ab") as file, open_trackers(run, trackers, step=state.step, goes_on=True) as opened:
        yield RunLog(file, opened, state)

"""The state of a training in memory, for the steps and looks that take longer than a signal waits.

In the middle of a step the weights are neither those before it nor those after it, so a copy is made before a step that
is expected to be slow. A step that is slow unexpectedly costs what was done since the last checkpoint.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

from contrastive_cli.core.runs import now
from contrastive_cli.engine.checkpoint import save_checkpoint
from contrastive_cli.engine.distributed import num_processes, process_rank
from contrastive_cli.engine.job_store import end_of_others
from contrastive_cli.services.training.loop_state import checkpoint_state, require_finite_weights
from contrastive_cli.services.training.sessions import Session

SLOW_SECONDS = 1.0
LOCK_SECONDS = 0.5


class Rescue:
    """Keeps a copy of the state, and saves it when the process has to end.

    Attributes:
        saving: Held while a checkpoint is written.
    """

    def __init__(self, session: Session) -> None:
        self.saving = threading.Lock()
        self._session = session
        self._kept: tuple[dict[str, Any], int, float] | None = None

    def keep(self) -> None:
        """Copy the state after the last step, in the process that writes."""
        if process_rank() > 0:
            return
        state = self._session.state
        self._kept = (copy.deepcopy(checkpoint_state(self._session.setup, state)), state.step, state.seconds)

    def save(self) -> str:
        """Save the copy if it is newer than the checkpoints, and say how to go on; only the first process does."""
        if process_rank() > 0:
            return ""
        run = self._session.run
        if self.saving.acquire(timeout=LOCK_SECONDS):  # never given back: the process ends
            if self._kept is not None and self._kept[1] > run.manifest().step:
                state, step, seconds = self._kept
                require_finite_weights(state["method"], step=step)
                save_checkpoint(run, state, step=step, seconds=seconds)
            run.update(status="interrupted", ended=now())
        if num_processes() > 1 and end_of_others(patience=0.0) is not None:
            return ""  # the process that failed has said why
        step = run.manifest().step
        return (
            f"stopped: in the middle of a step; the checkpoint of step {step} is saved\n"
            f"  go on with: clr pretrain --resume {run.path}\n"
        )

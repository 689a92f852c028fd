"""Pretraining: train a session to its end, and keep the run directory true at every moment.

`clr pretrain` reaches this module. `train_session` yields a status after every step, so that whoever calls decides what
to show.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from contrastive_cli.core.errors import Interrupted, RunError
from contrastive_cli.core.files import cannot_write
from contrastive_cli.core.manifest import EarlierLength
from contrastive_cli.core.runs import now
from contrastive_cli.core.signals import StopSignals
from contrastive_cli.engine.checkpoint import remove_orphans, save_checkpoint
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.services.inference.comparison import record_comparison
from contrastive_cli.services.training.loop_state import (
    checkpoint_state,
    cut_metrics,
    metrics_line,
    refuse_collapsed,
    require_finite,
)
from contrastive_cli.services.training.resumption import refuse_overtaken
from contrastive_cli.services.training.sessions import Session
from contrastive_cli.services.training.setup import online_probe
from contrastive_cli.services.training.steps import train_steps
from contrastive_cli.services.training.tensorboard import open_board

LINES_PER_RUN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """Where the training stands after a step; `line` is the metrics record when one was just written."""

    step: int
    total_steps: int
    epoch: float
    seconds: float
    views_per_second: float
    line: Mapping[str, float] | None = None


def train_session(session: Session) -> Iterator[Status]:
    """Train to the end of the schedule, logging and saving; a signal saves and raises `Interrupted`.

    Raises:
        Interrupted: After SIGINT or SIGTERM, with everything saved.
        TrainingError: If the loss is not finite or memory runs out; earlier checkpoints stay.
        RunError: If the run is in use or cannot be written.
    """
    run = session.run
    with run.locked(), StopSignals() as signals:
        manifest = run.manifest()
        artifacts = {key: value for key, value in manifest.artifacts.items() if key not in session.damaged}
        refuse_overtaken(run, manifest, started=session.started, artifacts=artifacts, step=session.state.step)
        lengths = manifest.earlier_lengths
        if session.total_steps != manifest.total_steps:
            lengths = (*lengths, EarlierLength(step=session.state.step, total_steps=manifest.total_steps))
        if session.changed is not None:
            run.write_config(session.changed)
        run.update(
            status="running", ended=None, artifacts=artifacts, total_steps=session.total_steps, earlier_lengths=lengths
        )
        remove_orphans(run)
        try:
            with memory_errors(session.setup.device, batch_size=session.setup.config.batch_size):
                yield from _train(session, signals)
                refuse_collapsed(run)
                how = record_comparison(run, device=str(session.setup.device))
        except Interrupted:
            run.update(status="interrupted", ended=now())
            raise
        except Exception as error:
            with contextlib.suppress(RunError):  # a full disk may refuse this too
                run.update(status="failed", ended=now())
            if isinstance(error, OSError):
                raise cannot_write(run.path, error) from error
            raise
        run.update(status="finished", ended=now(), similarity_layer=how.layer, similarity_average=how.average)


def _train(session: Session, signals: StopSignals) -> Iterator[Status]:
    setup, run, state, total_steps = session.setup, session.run, session.state, session.total_steps
    config = setup.config
    online = online_probe(setup)
    evaluate_at = {
        math.ceil(total_steps * k / config.train.evaluations) for k in range(1, config.train.evaluations + 1)
    }
    log_every = max(1, total_steps // LINES_PER_RUN)
    views_per_step = config.batch_size * setup.method.num_views
    seconds_before, first_step = state.seconds, state.step
    started = last_saved = time.monotonic()
    metrics_path = run.path / "metrics.jsonl"
    cut_metrics(metrics_path, state.metrics_bytes)
    with metrics_path.open("ab") as metrics, open_board(run, config.train.tensorboard, first_step=first_step) as board:
        for record in train_steps(setup, first_step=state.step, total_steps=total_steps):
            state.step = record.step
            state.loss_sum = state.loss_sum + record.loss.float()
            state.loss_count += 1
            line = None
            state.seconds = seconds_before + time.monotonic() - started
            rate = views_per_step * (record.step - first_step) / max(1e-9, state.seconds - seconds_before)
            if record.step % log_every == 0 or record.step in evaluate_at or record.step == total_steps:
                line = metrics_line(setup, state, record, rate)
                if record.step in evaluate_at:
                    line |= online.measure(setup.method, precision=setup.precision)
                metrics.write((json.dumps(line) + "\n").encode())
                board.write(line)
                metrics.flush()
                state.metrics_bytes = metrics.tell()
            stop = signals.received is not None
            if stop or record.step == total_steps or time.monotonic() - last_saved >= config.train.save_every:
                require_finite(record.loss, record)
                os.fsync(metrics.fileno())  # a checkpoint must not be newer than the lines it counts
                save_checkpoint(run, checkpoint_state(setup, state), step=state.step, seconds=state.seconds)
                last_saved = time.monotonic()
            if stop and record.step < total_steps:
                raise Interrupted(
                    f"stopped at step {record.step} of {total_steps}; the checkpoint is saved",
                    signal_number=signals.received or 2,
                    hint=f"go on with: clr pretrain --resume {run.path}",
                )
            yield Status(
                step=record.step,
                total_steps=total_steps,
                epoch=record.step / setup.steps_per_epoch,
                seconds=state.seconds,
                views_per_second=rate,
                line=line,
            )

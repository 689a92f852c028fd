"""Pretraining: train a session to its end, and keep the run directory true at every moment.

`clr pretrain` reaches this module. `train_session` yields a status after every step, so that whoever calls decides what
to show.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from contrastive_cli.core.errors import Interrupted, RunError
from contrastive_cli.core.files import cannot_write
from contrastive_cli.core.manifest import EarlierLength
from contrastive_cli.core.runs import now
from contrastive_cli.core.signals import StopSignals
from contrastive_cli.engine.checkpoint import remove_orphans, save_checkpoint
from contrastive_cli.engine.compiling import compiled_encoder
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.engine.distributed import PeerLostError, agree, alone, from_first, largest, process_rank
from contrastive_cli.engine.train import StepRecord
from contrastive_cli.services.configuration import read_run_config
from contrastive_cli.services.inference.similarity import record_comparison
from contrastive_cli.services.trackers.telling import names_of
from contrastive_cli.services.training.cadence import Cadence
from contrastive_cli.services.training.loop_state import (
    checkpoint_state,
    metrics_line,
    refuse_collapsed,
    require_finite,
    require_finite_weights,
)
from contrastive_cli.services.training.online_probe import OnlineProbe
from contrastive_cli.services.training.rescue import SLOW_SECONDS, Rescue
from contrastive_cli.services.training.resumption import refuse_overtaken
from contrastive_cli.services.training.run_log import RunLog, open_log
from contrastive_cli.services.training.same_everywhere import random_digest, refuse_other_state
from contrastive_cli.services.training.sessions import Session
from contrastive_cli.services.training.setup import online_probe
from contrastive_cli.services.training.steps import paced_steps


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
    rescue = Rescue(session)
    writes = process_rank() == 0
    with run.locked() if writes else contextlib.nullcontext(), StopSignals(rescue.save) as signals:
        from_first(lambda: _take_up(session))
        try:
            compiled = compiled_encoder(session.setup.method) if session.setup.config.train.compile else nullcontext()
            with compiled, memory_errors(session.setup.device, batch_size=session.setup.config.batch_size):
                yield from _train(session, signals, rescue)
                from_first(lambda: _finish(session))
        except (Interrupted, PeerLostError):
            if writes:
                run.update(status="interrupted", ended=now())
            raise
        except Exception as error:
            if writes:
                with contextlib.suppress(RunError):  # a full disk may refuse this too
                    run.update(status="failed", ended=now())
            if isinstance(error, OSError):
                raise cannot_write(run.path, error) from error
            raise


def _take_up(session: Session) -> None:
    """Enter in the locked run that it is trained from here on."""
    run = session.run
    manifest = run.manifest()
    artifacts = {key: value for key, value in manifest.artifacts.items() if key not in session.damaged}
    refuse_overtaken(run, manifest, started=session.started, artifacts=artifacts, step=session.state.step)
    lengths = manifest.earlier_lengths
    if session.total_steps != manifest.total_steps:
        lengths = (*lengths, EarlierLength(step=session.state.step, total_steps=manifest.total_steps))
    if session.changed is not None:
        run.write_config(session.changed)
    run.update(
        status="running",
        ended=None,
        artifacts=artifacts,
        total_steps=session.total_steps,
        pace=session.pace.segments,
        earlier_lengths=lengths,
    )
    remove_orphans(run)


def _finish(session: Session) -> None:
    """What comes after the last step."""
    refuse_collapsed(session.run)
    comparison = record_comparison(session.run, device=str(session.setup.device))
    _write_plan(session)
    session.run.update(
        status="finished", ended=now(), similarity_layer=comparison.layer, similarity_average=comparison.average
    )


def _train(session: Session, signals: StopSignals, rescue: Rescue) -> Iterator[Status]:
    """Once a step: correct the pace. Once in a while: look at the embedding, write a line, save."""
    setup, run, state = session.setup, session.run, session.state
    train, writes = setup.config.train, process_rank() == 0
    cadence = Cadence.of(session.pace, evaluations=train.evaluations, save_every=train.save_every)
    online = online_probe(setup) if writes else None
    first_step, seconds_before = state.step, state.seconds
    undrawn = random_digest(setup)
    started = saved = time.monotonic()
    if session.clock is not None:
        session.clock.begin(first_step, now=started)
    with open_log(run, state, trackers=names_of(train)) if writes else contextlib.nullcontext() as log:
        for record in paced_steps(setup, first_step=first_step, pace=lambda: session.pace):
            before = state.seconds
            state.add(record, seconds=seconds_before + time.monotonic() - started)
            if state.step == first_step + 1:
                refuse_other_state(setup, step=state.step, undrawn=undrawn)
            _correct_pace(session, cadence)
            line, pace = None, session.pace
            rate = _views(session, record.step - first_step) / max(1e-9, state.seconds - seconds_before)
            if cadence.logs(record.step, pace):
                line = metrics_line(setup, state, record, rate)
                if cadence.evaluates(record.step, pace) and online is not None:
                    line |= _look(session, online)
                if log is not None:
                    log.write(line)
            stop = largest(signals.received or 0)
            if stop or agree(cadence.saves(record.step, pace, seconds=time.monotonic() - saved)):
                with rescue.saving:
                    _save(session, record, log)
                saved = time.monotonic()
            if stop and record.step < pace.total_steps:
                raise _interrupted(session, stop)
            if state.seconds - before > SLOW_SECONDS or cadence.evaluates(record.step + 1, pace):
                rescue.keep()
            yield Status(
                step=record.step,
                total_steps=pace.total_steps,
                epoch=record.step / setup.steps_per_epoch,
                seconds=state.seconds,
                views_per_second=rate,
                line=line,
            )


def _correct_pace(session: Session, cadence: Cadence) -> None:
    """Ask the clock of a budget whether the training ends in time; a correction is recorded before it counts."""
    step, pace = session.state.step, session.pace
    if session.clock is None or not pace.segments[-1][0] < step < pace.total_steps:
        return  # a resumed run goes by its record as far as that reaches
    corrected = agree(session.clock.corrected(pace, cadence, step=step, now=time.monotonic()))
    if corrected != pace:
        if process_rank() == 0:
            session.run.update(total_steps=corrected.total_steps, pace=corrected.segments)
        session.pace = corrected


def _look(session: Session, online: OnlineProbe) -> dict[str, float]:
    started, setup = time.monotonic(), session.setup
    with alone():
        measured = online.measure(setup.method, precision=setup.precision)
    if session.clock is not None:
        session.clock.looked(time.monotonic() - started)
    return measured


def _save(session: Session, record: StepRecord, log: RunLog | None) -> None:
    """Save, once all processes have the same; nobody goes on before it is done."""
    require_finite(record.loss, record)
    refuse_other_state(session.setup, step=record.step)
    from_first(lambda: _write_checkpoint(session, record, log))


def _write_checkpoint(session: Session, record: StepRecord, log: RunLog | None) -> None:
    assert log is not None, "the first process keeps the log"
    log.sync()
    saved = checkpoint_state(session.setup, session.state)
    require_finite_weights(saved["method"], step=record.step)
    save_checkpoint(session.run, saved, step=record.step, seconds=session.state.seconds)


def _write_plan(session: Session) -> None:
    """Leave in the configuration what became of a budget, so that it trains the same steps again."""
    config = read_run_config(session.run)
    if config.train.budget is not None and config.train.plan != session.pace.segments:
        plan = config.train.model_copy(update={"plan": session.pace.segments})
        session.run.write_config(config.model_copy(update={"train": plan}))


def _views(session: Session, steps: int) -> int:
    views: int = steps * session.setup.config.batch_size * session.setup.method.num_views
    return views


def _interrupted(session: Session, signal_number: int) -> Interrupted:
    return Interrupted(
        f"stopped at step {session.state.step} of {session.total_steps}; the checkpoint is saved",
        signal_number=signal_number,
        hint=f"go on with: clr pretrain --resume {session.run.path}",
    )

"""Pretraining: open the images, build the method, train, and keep the run directory true at every moment.

`clr pretrain` reaches this module. A session is everything that training needs; `train_session` yields a status after
every step, so that whoever calls decides what to show.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from contrastive_cli.core.errors import ClrError, DataError, Interrupted, RunError
from contrastive_cli.core.files import cannot_write, write_atomically
from contrastive_cli.core.manifest import DatasetFacts, EarlierLength, Manifest, ParentFacts
from contrastive_cli.core.runs import Run, create_run, default_run_name, free_run_path, now, process_facts, run_exists
from contrastive_cli.core.signals import StopSignals
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import bad_files_csv
from contrastive_cli.engine.checkpoint import KIND, does_not_fit, load_checkpoint, remove_orphans, save_checkpoint
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.methods import load_method
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.loop_state import (
    LoopState,
    Status,
    checkpoint_state,
    cut_metrics,
    metrics_line,
    missing_metrics,
    refuse_collapsed,
    require_finite,
    restore,
)
from contrastive_cli.services.neighbors import refuse_other_neighbors
from contrastive_cli.services.online import OnlineProbe
from contrastive_cli.services.resumption import (
    Changes,
    changed_config,
    new_length,
    other_versions,
    refuse_edited,
    refuse_overtaken,
)
from contrastive_cli.services.tensorboard import open_board
from contrastive_cli.services.trainee import Trainee, plan_steps, prepare, train_steps
from contrastive_cli.services.verification import record_similarity_layer

LINES_PER_RUN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A training that can start: the trainee, its run directory, and where it stands.

    Attributes:
        started: When the run was, which tells it from a later one of its name.
        damaged: Checkpoints that were passed over.
        changed: The configuration to write, if a resumed run has another one than it began with.
        remarks: What there is to say of a resumed run.
    """

    trainee: Trainee
    run: Run
    total_steps: int
    state: LoopState
    started: str
    damaged: tuple[str, ...] = ()
    changed: PretrainConfig | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Inherited:
    """The encoder's weights that a finetuned run begins with, and where they come from."""

    facts: ParentFacts
    encoder: Mapping[str, Tensor]


def start_session(
    config: PretrainConfig,
    *,
    out: Path | None,
    overwrite: bool,
    progress: CountProgress | None = None,
    inherited: Inherited | None = None,
) -> Session:
    """Ask whether the run directory can be made, open the images, and only then make it and write what is known.

    A run that inherits weights begins with a checkpoint of them, so that it can be resumed from the first step on.

    Raises:
        RunError: If the directory exists or cannot be written.
        DataError: If the images cannot be had.
    """
    kind = config.method_name if inherited is None else "finetune"
    name = default_run_name(method=kind, dataset=config.dataset.name, seed=config.seed)
    path = free_run_path(out, default_name=name, overwrite=overwrite)
    trainee = prepare(config, progress=progress)
    if inherited is not None:
        trainee.method.encoder.load_state_dict(inherited.encoder)
    with memory_errors(trainee.device, batch_size=trainee.config.batch_size):
        total_steps, _ = plan_steps(trainee)
    run = create_run(path, overwrite=overwrite)
    state = LoopState()
    with run.locked():
        if not run.is_empty():  # another process was faster
            raise run_exists(path)
        _write_start(run, trainee, total_steps=total_steps, parent=None if inherited is None else inherited.facts)
        if inherited is not None:
            save_checkpoint(run, checkpoint_state(trainee, state), step=0, seconds=0.0)
    return Session(trainee=trainee, run=run, total_steps=total_steps, state=state, started=run.manifest().started)


def _write_start(run: Run, trainee: Trainee, *, total_steps: int, parent: ParentFacts | None) -> None:
    config, images = trainee.config, trainee.images
    run.write_config(config)
    if images.bad_files:
        write_atomically(run.path / "bad_files.csv", bad_files_csv(images.bad_files))
    run.write_manifest(
        Manifest(
            status="running",
            method=config.method_name,
            encoder=config.encoder.name,
            dataset=DatasetFacts(
                name=images.name, split=images.split, count=images.num_samples, fingerprint=images.fingerprint
            ),
            seed=config.seed,
            device=str(trainee.device),
            precision=trainee.precision,
            threads=torch.get_num_threads(),
            total_steps=total_steps,
            mean=images.mean,
            std=images.std,
            classes=images.classes,
            size=config.dataset.size or 0,
            neighbors=None if trainee.neighbors is None else trainee.neighbors.facts,
            labels=trainee.num_samples if load_method(config.method_name).needs_labels else None,
            parent=parent,
            **process_facts(),
        )
    )


def resume_session(run: Run, *, changes: Changes | None = None, progress: CountProgress | None = None) -> Session:
    """Take a run up where its newest intact checkpoint stands, on the device and threads it began with.

    Raises:
        UsageError: If `changes` hold anything that cannot change.
        RunError: If it is finished, and not to become longer, or damaged.
        DataError: If the images are not those it was started with.
    """
    manifest = run.manifest()
    config, is_changed = changed_config(run, manifest, changes)
    if manifest.status == "finished" and config.train.epochs is None:
        raise _finished(run)
    torch.set_num_threads(manifest.threads)
    trainee = prepare(config, progress=progress)
    if trainee.images.fingerprint != manifest.dataset.fingerprint:
        raise DataError(
            f"the images of {config.dataset.name} are not those that {run.path} was started with",
            hint="bring the old images back, or start a new run",
        )
    refuse_other_neighbors(trainee.neighbors, manifest.neighbors)
    state = LoopState()
    damaged: tuple[str, ...] = ()
    if any(artifact.kind == KIND for artifact in manifest.artifacts.values()):
        checkpoint = load_checkpoint(run)
        with does_not_fit(run, checkpoint.name):
            refuse_edited(run, trainee.config, checkpoint.state)
            state = restore(trainee, checkpoint.state)
        damaged = checkpoint.damaged
    elif manifest.parent is not None:
        raise RunError(f"{run.path} was stopped before it had its first checkpoint", hint="run `clr finetune` again")
    total_steps, effect = new_length(trainee, manifest, step=state.step)
    if manifest.status == "finished" and effect is None:
        raise _finished(run)
    return Session(
        trainee=trainee,
        run=run,
        total_steps=total_steps,
        state=state,
        started=manifest.started,
        damaged=damaged,
        changed=config if is_changed else None,
        remarks=(*other_versions(manifest), *missing_metrics(run, state), *([effect] if effect else [])),
    )


def _finished(run: Run) -> RunError:
    return RunError(f"run {run.path} is finished", hint="give it more --epochs, or start a new one with --config")


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
            with memory_errors(session.trainee.device, batch_size=session.trainee.config.batch_size):
                yield from _train(session, signals)
                refuse_collapsed(run)
                layer = record_similarity_layer(run, device=str(session.trainee.device))
        except Interrupted:
            run.update(status="interrupted", ended=now())
            raise
        except (ClrError, OSError) as error:
            with contextlib.suppress(RunError):  # a full disk may refuse this too
                run.update(status="failed", ended=now())
            if isinstance(error, OSError):
                raise cannot_write(run.path, error) from error
            raise
        run.update(status="finished", ended=now(), similarity_layer=layer)


def _train(session: Session, signals: StopSignals) -> Iterator[Status]:
    trainee, run, state, total_steps = session.trainee, session.run, session.state, session.total_steps
    config = trainee.config
    online = OnlineProbe.of(trainee.images, trainee.source, seed=config.seed)
    evaluate_at = {
        math.ceil(total_steps * k / config.train.evaluations) for k in range(1, config.train.evaluations + 1)
    }
    views_per_step = config.batch_size * trainee.method.num_views
    seconds_before, first_step = state.seconds, state.step
    started = last_saved = time.monotonic()
    metrics_path = run.path / "metrics.jsonl"
    cut_metrics(metrics_path, state.metrics_bytes)
    with metrics_path.open("ab") as metrics, open_board(run, config.train.tensorboard, first_step=first_step) as board:
        for record in train_steps(trainee, first_step=state.step, total_steps=total_steps):
            state.step = record.step
            state.loss_sum = state.loss_sum + record.loss.float()
            state.loss_count += 1
            line = None
            state.seconds = seconds_before + time.monotonic() - started
            rate = views_per_step * (record.step - first_step) / max(1e-9, state.seconds - seconds_before)
            if (
                record.step % max(1, total_steps // LINES_PER_RUN) == 0
                or record.step in evaluate_at
                or record.step == total_steps
            ):
                line = metrics_line(trainee, state, record, rate)
                if record.step in evaluate_at:
                    line |= online.measure(trainee.method, precision=trainee.precision)
                    trainee.method.train()
                metrics.write((json.dumps(line) + "\n").encode())
                board.write(line)
                metrics.flush()
                state.metrics_bytes = metrics.tell()
            stop = signals.received is not None
            if stop or record.step == total_steps or time.monotonic() - last_saved >= config.train.save_every:
                require_finite(record.loss, record)
                os.fsync(metrics.fileno())  # a checkpoint must not be newer than the lines it counts
                save_checkpoint(run, checkpoint_state(trainee, state), step=state.step, seconds=state.seconds)
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
                epoch=record.step / trainee.steps_per_epoch,
                seconds=state.seconds,
                views_per_second=rate,
                line=line,
            )

"""What a training begins with: the images opened and the method built, in a new run or where an old one stands.

`clr pretrain` and `clr finetune` reach this module; `training` takes a session to its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError, RunError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.manifest import DatasetFacts, Manifest, ParentFacts, checkpoints_of
from contrastive_cli.core.runs import (
    Run,
    create_named_run,
    create_run,
    default_run_name,
    free_run_path,
    process_facts,
    run_exists,
)
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import bad_files_csv
from contrastive_cli.engine.checkpoint import does_not_fit, load_checkpoint, save_checkpoint
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.methods import load_method
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.training.loop_state import LoopState, checkpoint_state, missing_metrics, restore
from contrastive_cli.services.training.mined_neighbors import refuse_other_neighbors
from contrastive_cli.services.training.plan import plan_steps
from contrastive_cli.services.training.resumption import (
    Changes,
    changed_config,
    new_length,
    other_versions,
    refuse_edited,
)
from contrastive_cli.services.training.setup import Trainee, prepare


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A training that can start: the trainee, its run directory, and where it stands.

    Attributes:
        started: When the run was, which tells it from a later one of its name.
        damaged: Checkpoints that were passed over.
        changed: The configuration to write, if a resumed run has another one than it began with.
        remarks: What there is to say of a resumed run, or of one that was in its place.
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
    # Two starts in one second have one default name, and a --out is a place that was chosen.
    run, replaced = (create_named_run(path), None) if out is None else create_run(path, overwrite=overwrite)
    state = LoopState()
    with run.locked():
        if not run.is_empty():  # another process was faster
            raise run_exists(path)
        _write_start(run, trainee, total_steps=total_steps, parent=None if inherited is None else inherited.facts)
        if inherited is not None:
            save_checkpoint(run, checkpoint_state(trainee, state), step=0, seconds=0.0)
    return Session(
        trainee=trainee,
        run=run,
        total_steps=total_steps,
        state=state,
        started=run.manifest().started,
        remarks=() if replaced is None else (f"the run that was there is {replaced} now",),
    )


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
            stored_size=config.dataset.stored_size,
            neighbors=None if trainee.neighbors is None else trainee.neighbors.facts,
            labels=_num_labels(trainee),
            parent=parent,
            **process_facts(),
        )
    )


def _num_labels(trainee: Trainee) -> int | None:
    return trainee.num_samples if load_method(trainee.config.method_name).needs_labels else None


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
    if checkpoints_of(manifest.artifacts):
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

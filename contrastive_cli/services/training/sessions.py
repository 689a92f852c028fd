"""What a training begins with: the images opened and the method built, in a new run or where an old one stands.

`clr pretrain` and `clr finetune` reach this module; `training` takes a session to its end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError, RunError, UsageError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.manifest import DatasetFacts, Manifest, ParentFacts, checkpoints_of
from contrastive_cli.core.provenance import command_line, git_revision, versions
from contrastive_cli.core.runs import (
    Run,
    create_named_run,
    create_run,
    default_run_name,
    free_run_path,
    now,
    run_exists,
)
from contrastive_cli.core.types import CountProgress, Say, silent
from contrastive_cli.data.bad_files import bad_files_csv
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.data.own_datasets import find_own
from contrastive_cli.engine.checkpoint import checkpoint_mismatch_errors, load_checkpoint, save_checkpoint
from contrastive_cli.engine.device import memory_errors
from contrastive_cli.engine.distributed import from_first
from contrastive_cli.engine.job_store import remember
from contrastive_cli.engine.schedule import Pace
from contrastive_cli.methods import load_method
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.own_methods import own_file_of
from contrastive_cli.services.training.budget import BudgetClock
from contrastive_cli.services.training.loop_state import LoopState, checkpoint_state, missing_metrics, restore
from contrastive_cli.services.training.mined_neighbors import refuse_other_neighbors
from contrastive_cli.services.training.plan import budget_clock, plan_pace
from contrastive_cli.services.training.resumption import (
    Changes,
    changed_config,
    new_length,
    other_versions,
    refuse_edited,
)
from contrastive_cli.services.training.same_everywhere import refuse_other_start
from contrastive_cli.services.training.setup import TrainingSetup, set_up_training

FROM_WEIGHTS = "`clr pretrain --encoder NAME --weights ...` or `--from RUN` trains one on"
RUN_FACT = "run"


@dataclass(kw_only=True, slots=True)
class Session:
    """A training that can start: the setup, its run directory, and where it stands.

    Attributes:
        pace: How far each step brings it; the clock of a budget corrects it while it trains.
        clock: Of a budget that no plan has fixed yet.
        started: When the run was, which tells it from a later one of its name.
        damaged: Checkpoints that were passed over.
        changed: The configuration to write, if a resumed run has another one than it began with.
        notices: What there is to say of a resumed run, or of one that was in its place.
    """

    setup: TrainingSetup
    run: Run
    pace: Pace
    state: LoopState
    started: str
    damaged: tuple[str, ...] = ()
    changed: PretrainConfig | None = None
    notices: tuple[str, ...] = ()
    clock: BudgetClock | None = None

    @property
    def total_steps(self) -> int:
        """The steps of the whole training, as far as is known now."""
        return self.pace.total_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class InheritedWeights:
    """The encoder's weights that a finetuned run begins with, and where they come from."""

    facts: ParentFacts
    encoder: Mapping[str, Tensor]


def start_session(
    config: PretrainConfig,
    *,
    out: Path | None,
    overwrite: bool,
    progress: CountProgress | None = None,
    say: Say = silent,
    inherited: InheritedWeights | None = None,
    began: float | None = None,
) -> Session:
    """Ask whether the run directory can be made, open the images, and only then make it and write what is known.

    A run that inherits weights begins with a checkpoint of them, so that it can be resumed from the first step on. A
    budget counts from `began` on, by `time.monotonic`, or from now.

    Raises:
        RunError: If the directory exists or cannot be written.
        DataError: If the images cannot be had.
    """
    began = time.monotonic() if began is None else began
    kind = config.method_name if inherited is None else "finetune"
    if config.train.freeze_epochs > 0 and config.encoder.weights is None and inherited is None:
        raise UsageError(
            "train.freeze_epochs keeps the encoder as it came, and it has fresh weights", hint=FROM_WEIGHTS
        )
    name = default_run_name(method=kind, dataset=find_dataset(config.dataset.name).name, seed=config.seed)
    path = from_first(lambda: free_run_path(out, default_name=name, overwrite=overwrite))
    setup = set_up_training(config, progress=progress, say=say)
    if inherited is not None:
        encoder_of(setup.method).load_state_dict(inherited.encoder)
    with memory_errors(setup.device, batch_size=setup.config.batch_size):
        clock = budget_clock(setup, began=began)
        pace = plan_pace(setup, clock=clock, say=say)
    state = LoopState()
    refuse_other_start(setup, step=0)
    parent = None if inherited is None else inherited.facts
    run, replaced, started = from_first(
        lambda: _make_run(path, setup, state, pace=pace, parent=parent, named=out is not None, overwrite=overwrite)
    )
    return Session(
        setup=setup,
        run=run,
        pace=pace,
        clock=clock,
        state=state,
        started=started,
        notices=(*(() if replaced is None else (f"the run that was there is {replaced} now",)),),
    )


def _make_run(
    path: Path,
    setup: TrainingSetup,
    state: LoopState,
    *,
    pace: Pace,
    parent: ParentFacts | None,
    named: bool,
    overwrite: bool,
) -> tuple[Run, Path | None, str]:
    """The new run, the place of one that was there, and when it was started."""
    # Two starts in one second have one default name, and a --out is a place that was chosen.
    run, replaced = create_run(path, overwrite=overwrite) if named else (create_named_run(path), None)
    with run.locked():
        if not run.is_empty():  # another process was faster
            raise run_exists(path)
        _write_start(run, setup, pace=pace, parent=parent)
        if parent is not None or setup.weights is not None:
            save_checkpoint(run, checkpoint_state(setup, state), step=0, seconds=0.0)
    remember(RUN_FACT, str(run.path.absolute()))  # who is started again goes on with it
    return run, replaced, run.manifest().started


def _write_start(run: Run, setup: TrainingSetup, *, pace: Pace, parent: ParentFacts | None) -> None:
    config, images = setup.config, setup.images
    run.write_config(config)
    if images.left_out:
        write_atomically(run.path / "bad_files.csv", bad_files_csv(images.left_out))
    run.write_manifest(
        Manifest(
            status="running",
            method=config.method_name,
            method_file=own_file_of(config.method_name),
            encoder=config.encoder.name,
            dataset=_dataset_facts(config, images),
            seed=config.seed,
            device=setup.recorded_device,
            precision=setup.precision,
            threads=torch.get_num_threads(),
            total_steps=pace.total_steps,
            pace=pace.segments,
            mean=setup.preprocessing.mean,
            std=setup.preprocessing.std,
            range=images.picture_range,
            bands=config.dataset.bands,
            classes=images.classes,
            size=config.dataset.size or 0,
            stored_size=config.dataset.stored_size,
            framing=config.preprocess.framing(config.dataset.size or 0),
            weights=setup.weights,
            neighbors=None if setup.neighbors is None else setup.neighbors.facts,
            labels=_num_labels(setup),
            parent=parent,
            command=command_line(),
            versions=versions(),
            git=git_revision(),
            started=now(),
        )
    )


def _dataset_facts(config: PretrainConfig, images: ImageSet) -> DatasetFacts:
    own = find_own(config.dataset.name)
    return DatasetFacts(
        name=images.name,
        split=images.split,
        count=images.num_samples,
        fingerprint=images.fingerprint,
        file=None if own is None else str(own.file),
        file_sha256=None if own is None else own.sha256,
    )


def _num_labels(setup: TrainingSetup) -> int | None:
    return setup.num_samples if load_method(setup.config.method_name).needs_labels else None


def resume_session(
    run: Run,
    *,
    changes: Changes | None = None,
    progress: CountProgress | None = None,
    say: Say = silent,
    began: float | None = None,
) -> Session:
    """Take a run up where its newest intact checkpoint stands, on the device and threads it began with.

    Raises:
        UsageError: If `changes` hold anything that cannot change.
        RunError: If it is finished, and not to become longer, or damaged.
        DataError: If the images are not those it was started with.
    """
    began = time.monotonic() if began is None else began
    manifest = run.manifest()
    if manifest.status == "imported":
        raise UsageError(f"{run.path} is an encoder that was imported, not a training", hint=FROM_WEIGHTS)
    config, is_changed = changed_config(run, manifest, changes)
    if manifest.status == "finished" and config.train.epochs is None:
        raise _finished(run)
    torch.set_num_threads(manifest.threads)
    setup = set_up_training(config, known=manifest, progress=progress, say=say)
    if setup.images.fingerprint != manifest.dataset.fingerprint:
        raise DataError(
            f"the images of {config.dataset.name} are not those that {run.path} was started with",
            hint="bring the old images back, or start a new run",
        )
    refuse_other_neighbors(setup.neighbors, manifest.neighbors)
    state = LoopState()
    damaged: tuple[str, ...] = ()
    if checkpoints_of(manifest.artifacts):
        checkpoint = load_checkpoint(run)
        with checkpoint_mismatch_errors(run, checkpoint.name):
            refuse_edited(run, setup.config, checkpoint.state)
            state = restore(setup, checkpoint.state)
        damaged = checkpoint.damaged
    elif manifest.parent is not None or manifest.weights is not None:
        raise RunError(f"{run.path} was stopped before it had its first checkpoint", hint="start it again")
    pace, effect = new_length(setup, manifest, step=state.step)
    refuse_other_start(setup, step=state.step)
    if manifest.status == "finished" and effect is None:
        raise _finished(run)
    return Session(
        setup=setup,
        run=run,
        pace=pace,
        clock=budget_clock(setup, began=began, spent=state.seconds),
        state=state,
        started=manifest.started,
        damaged=damaged,
        changed=config if is_changed else None,
        notices=(*other_versions(manifest), *missing_metrics(run, state), *([effect] if effect else [])),
    )


def _finished(run: Run) -> RunError:
    return RunError(f"run {run.path} is finished", hint="give it more --epochs, or start a new one with --config")

"""What may change when a run is resumed, and what a change does; everything else is shown and refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contrastive_cli.core.config import Tree, build, read_preset
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.manifest import Artifact, Manifest, checkpoints_of
from contrastive_cli.core.provenance import versions
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import Progress
from contrastive_cli.data.own_datasets import with_named_dataset
from contrastive_cli.engine.schedule import Pace
from contrastive_cli.services.configuration import PretrainConfig, config_model, fill, read_run_config
from contrastive_cli.services.option_trees import merge_layers, name_of, name_recipe, refuse_double
from contrastive_cli.services.training.setup import TrainingSetup
from contrastive_cli.services.training.steps import learning_rate

# The length changes the schedule of the steps to come, which is said; the others do not change what is learned.
# The file of neighbors may have moved: it must have the sha256 it had.
SAFE = {
    "train.epochs",
    "train.budget",
    "train.plan",
    "train.save_every",
    "train.tensorboard",
    "train.trackers",
    "dataset.data_dir",
    "dataset.labels",
    "dataset.download",
    "neighbors",
}
VERSIONS_THAT_COUNT = ("torch", "clr")
CHOSEN_BY_RUN = {"device", "train.precision"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What was given to a resumed run.

    Attributes:
        config: YAML file or preset, as for a new run.
        sets: Tree of `--set`.
        flags: Tree of the named options.
    """

    config: str | None
    sets: Tree
    flags: Tree


def changed_config(run: Run, manifest: Manifest, changes: Changes | None) -> tuple[PretrainConfig, bool]:
    """The configuration to go on with, on the device and in the precision the run began with, and whether it is new.

    What is given again with the value that it has is no change.

    Raises:
        UsageError: If anything changes that is not on the short list.
        RunError: If the configuration of the run is missing or damaged.
    """
    own = read_run_config(run)
    if changes is None:
        return _as_begun(own, manifest), False
    refuse_double(changes.sets, changes.flags)
    sets, flags = with_named_dataset(changes.sets), with_named_dataset(changes.flags)
    given = merge_layers(read_preset(changes.config) if changes.config else {}, sets, flags)
    if given.get("device") == manifest.device:  # what the run found by itself may be named
        own = own.model_copy(update={"device": manifest.device})
    method = name_of(given, "method", own.method_name)
    if method != own.method_name:
        _refuse(run, {"method.name": (own.method_name, method)})
    if "views" in given:
        given["views"] = name_recipe(given["views"], default=None)
    new = fill(build(config_model(method), merge_layers(own.model_dump(mode="json"), given)))
    old_values, new_values = (dict(_leaves(config.model_dump(mode="json"))) for config in (own, new))
    different = {key: (old_values[key], value) for key, value in new_values.items() if value != old_values[key]}
    _refuse_unsafe(run, different)
    if "train.budget" in different and new.train.budget is not None:
        raise UsageError("a resumed run cannot get another --budget", hint="give its new length by --epochs")
    return _as_begun(new, manifest), bool(different)


def _as_begun(config: PretrainConfig, manifest: Manifest) -> PretrainConfig:
    train = config.train.model_copy(update={"precision": manifest.precision})
    return config.model_copy(update={"device": manifest.device, "train": train})


def new_length(setup: TrainingSetup, manifest: Manifest, *, step: int) -> tuple[Pace, str | None]:
    """The pace of the whole run under its configuration, and what a new length does to the learning rate.

    Raises:
        UsageError: If as many steps are done already.
    """
    config = setup.config
    recorded = manifest.pace
    fits = recorded and recorded[-1][1] == manifest.total_steps
    old = Pace(recorded) if fits else Pace.of(manifest.total_steps)
    if config.train.epochs is None:
        return old, None
    total = setup.steps_of(config.train.epochs)
    if total == manifest.total_steps and len(old.segments) == 1:
        return old, None
    if total <= step:
        raise UsageError(
            f"{config.train.epochs:g} epochs are {total} steps, and {step} are done", hint="give more --epochs"
        )
    new = Pace.of(total)
    before, after = (
        learning_rate(
            config, Progress(step=pace.position(min(step, pace.total_steps - 1)), total_steps=pace.planned_steps)
        )
        for pace in (old, new)
    )
    change = f"goes on at {after:.3g}, not {before:.3g}"
    if f"{after:.3g}" == f"{before:.3g}":
        change = f"falls {'more slowly' if total > manifest.total_steps else 'faster'} from {after:.3g} on"
    return new, (
        f"{total} steps instead of {manifest.total_steps}: the learning rate {change}; "
        "the result is not that of a run of this length from the start"
    )


def other_versions(manifest: Manifest) -> list[str]:
    """A line for every program whose other version may change the last bits."""
    current = versions()
    return [
        f"warning: {name} is {current[name]} and was {manifest.versions[name]}; the rest of the run may differ by it"
        for name in VERSIONS_THAT_COUNT
        if name in current and manifest.versions.get(name, current[name]) != current[name]
    ]


def refuse_edited(run: Run, config: PretrainConfig, saved: Mapping[str, Any]) -> None:
    """Ask that `config.yaml` is still what the checkpoint was trained with, as far as it counts.

    Raises:
        UsageError: With what is different.
    """
    old, new = (dict(_leaves(tree)) for tree in (saved.get("config", {}), config.model_dump(mode="json")))
    chosen = {key for key in CHOSEN_BY_RUN if old.get(key) == "auto"}  # the manifest knows what that became
    _refuse_unsafe(run, {key: (old[key], new.get(key)) for key in old.keys() - chosen if new.get(key) != old[key]})


def refuse_overtaken(
    run: Run, manifest: Manifest, *, started: str, artifacts: Mapping[str, Artifact], step: int
) -> None:
    """Ask, with the run locked, that no other process trained or replaced it while this one opened the images.

    Raises:
        RunError: If one did.
    """
    newest = max((artifact.step or 0 for _, artifact in checkpoints_of(artifacts)), default=0)
    if manifest.started != started or newest != step:
        raise RunError(f"run {run.path} was changed by another process meanwhile", hint="resume it again")


def _refuse_unsafe(run: Run, different: Mapping[str, tuple[Any, Any]]) -> None:
    unsafe = {key: values for key, values in different.items() if key not in SAFE}
    if unsafe:
        _refuse(run, unsafe)


def _refuse(run: Run, different: Mapping[str, tuple[Any, Any]]) -> None:
    shown = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in different.items())
    raise UsageError(
        f"a resumed run goes on as it began; not {shown}",
        hint=f"leave it out, or start a new run with --config {run.path / 'config.yaml'} and the change",
    )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

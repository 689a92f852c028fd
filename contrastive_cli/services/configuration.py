"""The configuration of a pretraining, composed from its layers.

Lowest first: defaults < the dataset's own recipe and preset < `--config` < `--set` < named flags.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, SerializeAsAny, create_model, model_validator

from contrastive_cli.core.choices import AskedPrecision, Reduction, TrackerName
from contrastive_cli.core.config import Config, Tree, build, list_presets, merge, read_preset
from contrastive_cli.core.durations import Seconds
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.files import at_home
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.manifest import PlannedSteps
from contrastive_cli.core.own_code import guarded
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import ImageFacts, Method
from contrastive_cli.data.datasets import DEFAULT_DATASET, find_dataset
from contrastive_cli.data.own_datasets import with_named_dataset
from contrastive_cli.engine.device import choose_device
from contrastive_cli.engine.optim import OptimConfig
from contrastive_cli.methods import load_method
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.encoders import (
    EncoderConfig,
    automatic_encoder,
    build_encoder,
    refuse_unknown_encoder,
    refuse_unused_fields,
)
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.encoder_input import PreprocessConfig
from contrastive_cli.services.option_trees import (
    agree_on_views,
    for_method,
    merge_layers,
    name_group,
    name_of,
    name_recipe,
    own_sizes,
    refuse_double,
)
from contrastive_cli.services.own_methods import checked_method, own_file_of, recall_method, with_named_method
from contrastive_cli.services.starting_weights import start_from_weights
from contrastive_cli.views.recipe import Recipe, ViewGroup

REFERENCE_BATCH = 256
DEFAULT_EPOCHS = 100
DEFAULT_CPU_BUDGET = 15 * 60.0


class TrainConfig(Config):
    """How long, in what batches, how exactly.

    Attributes:
        epochs: Passes over the images; or `budget`, seconds from the start of the command to its end.
        freeze_epochs: Passes at the beginning in which the encoder stays as it came; needs weights it came with.
        plan: What became of a budget: pairs of a step and the steps of the whole from there on; trained again as it is.
        batch_size: Images whose views meet in one loss; None takes the usual one, or fewer where images are few.
        usual_batch_size: Images whose views meet in one loss, unless that is more than half of the images.
        images_per_class: K images of each of B / K classes in a batch (P x K); None shuffles all images.
        label_fraction: Part of every class's labels that methods which learn from labels may use, drawn by the seed.
        micro_batch_size: Images per pass through the encoder; contrastive methods keep all negatives all the same.
        compile: Compile the encoder at the first step, which takes a minute, so that steps are faster; for GPUs.
        reduction: How several processes add their gradients: fast, or ordered, which gives the bits of one process.
        batch_norm_processes: Processes whose micro-batches share the statistics of batch norm: 1, or all there are.
        precision: auto takes bf16 where the processor has instructions for it; a run keeps what that became.
        evaluations: How often the online kNN looks at the embedding.
        save_every: Seconds between checkpoints; does not change the result.
        tensorboard: Write the metrics for TensorBoard too (needs the extra).
        trackers: Trackers that are told the metrics, the configuration, results and pictures (each needs its extra).
    """

    epochs: float | None = Field(None, gt=0, le=1e6)
    budget: Seconds | None = None
    freeze_epochs: float = Field(0.0, ge=0, le=1e6)
    plan: PlannedSteps = ()
    batch_size: int | None = Field(None, ge=2)
    usual_batch_size: int = Field(REFERENCE_BATCH, ge=2)
    images_per_class: int | None = Field(None, ge=1)
    label_fraction: float = Field(1.0, gt=0, le=1)
    micro_batch_size: int | None = Field(None, ge=2)
    compile: bool = False
    reduction: Reduction = "fast"
    batch_norm_processes: int = Field(1, ge=1)
    precision: AskedPrecision = "auto"
    evaluations: int = Field(10, ge=0)
    save_every: Seconds = 120.0
    tensorboard: bool = False
    trackers: tuple[TrackerName, ...] = ()

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if self.epochs is not None and self.budget is not None:
            raise ValueError("epochs and budget exclude each other")
        if self.plan and self.budget is None:
            raise ValueError("plan is what became of a budget, and there is none")
        return self


class PretrainConfig(Config):
    """Everything that decides a pretraining; written to `config.yaml`."""

    method: SerializeAsAny[Config]
    dataset: DatasetConfig = DatasetConfig()
    encoder: EncoderConfig = EncoderConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    views: Recipe
    view_groups: tuple[ViewGroup, ...] | None = Field(None, description="views of several sizes or recipes, see docs")
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    neighbors: Path | None = Field(None, description="mined by `clr knn`, for methods whose views may show them")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    device: str = "auto"

    @property
    def method_name(self) -> str:
        """The method's name on the command line."""
        return str(self.method.name)  # type: ignore[attr-defined]

    @property
    def usual_view_size(self) -> int:
        """Side in pixels of a view whose group says nothing else."""
        assert self.dataset.size is not None, "the configuration was resolved"
        return self.dataset.view_size or self.dataset.size

    def groups_of(self, num_views: int) -> tuple[ViewGroup, ...]:
        """The groups of views of one step; without `view_groups` all views are alike."""
        return self.view_groups or (ViewGroup(count=num_views, **self.views.model_dump()),)

    @property
    def stored_framing(self) -> Framing | None:
        """How pictures become squares of the size that they are kept at; None for the rule of this package."""
        return self.preprocess.stored_framing(self.dataset.size or 0, self.dataset.stored_size)

    @property
    def batch_size(self) -> int:
        """Images whose views meet in one loss."""
        return self.train.batch_size or self.train.usual_batch_size

    @property
    def peak_learning_rate(self) -> float:
        """The rate after scaling by the batch size."""
        ratio = self.batch_size / REFERENCE_BATCH
        return self.optim.lr * {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[self.optim.lr_scaling]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """The configuration and the preset that was taken without being asked for."""

    config: PretrainConfig
    own_preset: str | None


def resolve(*, config: str | None, sets: Tree, flags: Tree, defaults: Tree | None = None) -> Resolved:
    """Compose the configuration; `sets` and `flags` are nested trees of what was given.

    `defaults`, where there are any, stand in the place of the dataset's own preset.

    Raises:
        UsageError: On unknown names and keys, values out of range, a key given by flag and by --set.
    """
    refuse_double(sets, flags)
    # a file that a configuration names is never imported, so only what was typed is looked up
    sets, flags = (with_named_method(with_named_dataset(typed)) for typed in (sets, flags))
    from_file = read_preset(config) if config else {}
    method = name_of(merge_layers(defaults or {}, from_file, sets, flags), "method", "simclr")
    from_file = for_method(from_file, name=method, fields=load_method(method).config.model_fields)
    given = merge_layers(defaults or {}, from_file, sets, flags)
    dataset = name_of(given, "dataset", DEFAULT_DATASET)
    spec = find_dataset(dataset)
    device = choose_device(str(given.get("device", "auto")))
    own_preset = None if defaults else find_own_preset(dataset=spec.name, method=method, device=device)
    preset = own_sizes(read_preset(own_preset), given, native=spec.size) if own_preset else {}
    tree = merge_layers(preset, given)
    tree = merge({"dataset": {"name": dataset}}, tree)
    tree = start_from_weights(tree, given=given, spec=spec)
    tree["method"] = {**tree.get("method", {}), "name": method}
    recipe = load_method(method).recipe or spec.recipe_at(_size(tree) or spec.size)
    tree["views"] = name_recipe(tree.get("views", {}), default=recipe)
    groups = tree.get("view_groups") or [dict(group) for group in load_method(method).view_groups]
    if groups:
        tree["view_groups"] = [name_group(group, views=tree["views"]) for group in groups]
    if "num_views" in load_method(method).config.model_fields:
        tree = agree_on_views(tree, merge(sets, flags), from_file, defaults or {}, preset)
    filled = fill(build(config_model(method), tree))
    if filled.encoder.name != "none":
        said = merge_layers(from_file, sets, flags).get("encoder", {})
        refuse_unused_fields(build(EncoderConfig, {**said, "name": filled.encoder.name}))
    return Resolved(config=filled, own_preset=own_preset)


@functools.cache
def config_model(method: str) -> type[PretrainConfig]:
    """The configuration model with the method's own fields under `method`."""
    spec = load_method(method)
    return create_model("PretrainConfig", __base__=PretrainConfig, method=(spec.config, ...))


def build_method(config: PretrainConfig, images: ImageFacts, *, encoder: Encoder | None = None) -> Method:
    """The method with fresh weights, drawn from torch's generator, and around an encoder if one is given."""
    spec = load_method(config.method_name)
    if spec.has_encoder and encoder is None:
        encoder = build_encoder(config.encoder, channels=images.channels, size=images.size)
    own = own_file_of(config.method_name)
    if own is None:
        return spec.build(config.method, encoder=encoder, images=images)
    built = guarded(lambda: spec.build(config.method, encoder=encoder, images=images), where=own.path)
    return checked_method(built, name=config.method_name)


def read_run_config(run: Run) -> PretrainConfig:
    """The resolved configuration of a run.

    Raises:
        RunError: If the file is missing or damaged.
    """
    manifest = run.manifest()
    recall_method(manifest.method, manifest.method_file)
    try:
        return build(config_model(manifest.method), run.config())
    except UsageError as error:
        raise RunError(f"the configuration of {run.path} cannot be used: {error.message}", path=run.path) from None


def find_own_preset(*, dataset: str, method: str, device: torch.device) -> str | None:
    """`<dataset>-<method>-<device>` or `<dataset>-<method>` among the presets, if there is one."""
    known = {preset.stem for preset in list_presets()}
    return next((name for name in (f"{dataset}-{method}-{device.type}", f"{dataset}-{method}") if name in known), None)


def fill(config: PretrainConfig) -> PretrainConfig:
    """Put in what was left open: the size, the encoder, the length; paths become absolute."""
    device = choose_device(config.device)
    size = config.dataset.size or find_dataset(config.dataset.name).size
    stored_size = config.dataset.stored_size
    if stored_size is not None and stored_size < size:
        raise UsageError(f"dataset.stored_size {stored_size} is below dataset.size {size}: nothing would be gained")
    if load_method(config.method_name).draws_images and config.dataset.view_size not in (None, size):
        raise UsageError(
            f"dataset.view_size {config.dataset.view_size} is not dataset.size {size}, and {config.method_name} draws "
            "what it sees",
            hint="leave dataset.view_size out",
        )
    encoder, train = config.encoder, config.train
    if not load_method(config.method_name).has_encoder:
        encoder = _no_encoder(config)
    elif encoder.name == "auto":
        encoder = encoder.model_copy(update={"name": automatic_encoder(device.type, size)})
    if encoder.name != "none":
        refuse_unknown_encoder(encoder.name)
    if train.epochs is None and train.budget is None:
        length = {"budget": DEFAULT_CPU_BUDGET} if device.type == "cpu" else {"epochs": float(DEFAULT_EPOCHS)}
        train = train.model_copy(update=length)
    places = (config.dataset.data_dir, config.dataset.labels, config.neighbors)
    data_dir, labels, neighbors = (None if place is None else at_home(place).absolute() for place in places)
    dataset = config.dataset.model_copy(update={"size": size, "data_dir": data_dir, "labels": labels})
    config.preprocess.framing(size)  # refuses a square that reaches beyond the picture
    return config.model_copy(update={"encoder": encoder, "train": train, "dataset": dataset, "neighbors": neighbors})


def _no_encoder(config: PretrainConfig) -> EncoderConfig:
    given = config.encoder.weights or config.encoder.name
    if given not in ("auto", "none"):
        raise UsageError(f"{config.method_name} has no encoder (given: {given!r})", hint="leave out --encoder")
    return config.encoder.model_copy(update={"name": "none"})


def _size(tree: Mapping[str, Any]) -> int | None:
    return size if isinstance(size := tree["dataset"].get("size"), int) else None

"""What is trained, on which images, how: the parts of a pretraining put together, before there is a run directory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contrastive_cli.core.choices import Precision
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.manifest import Manifest, WeightsFacts
from contrastive_cli.core.types import CountProgress, ImageFacts, Method, MethodSpec, Say, Splitting, silent
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.data.loader import DeviceImages, balanced_batch_indices, batch_indices, steps_per_epoch
from contrastive_cli.data.reading import LABELS_HINT
from contrastive_cli.embeddings.files import read_neighbors
from contrastive_cli.engine.allocator import keep_freed_memory
from contrastive_cli.engine.device import choose_device, memory_errors
from contrastive_cli.engine.distributed import local_device, num_processes
from contrastive_cli.engine.optim import build_optimizer
from contrastive_cli.engine.precision import choose_precision
from contrastive_cli.engine.synchronized_norm import synchronize_batch_norms
from contrastive_cli.methods import load_method
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.models.encoders import check_view_size
from contrastive_cli.services.configuration import PretrainConfig, build_method
from contrastive_cli.services.opening import open_images
from contrastive_cli.services.training.batches import fit_batch, labeled_subset
from contrastive_cli.services.training.dealing import fit_pieces, refuse_hidden_state, refuse_one_pass
from contrastive_cli.services.training.mined_neighbors import MinedNeighbors, check_wanted, neighbors_of
from contrastive_cli.services.training.online_probe import OnlineProbe
from contrastive_cli.services.training.started_encoder import encoder_with_weights, fresh_encoder, preprocessing_of
from contrastive_cli.views.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSetup:
    """What is trained, on which images, how: everything but the run directory.

    Attributes:
        preprocessing: From uint8 to what the encoder sees.
        weights: What the encoder came with; None for fresh ones.
        subset: [M] int64, positions of the images that are trained on; None for all.
        neighbors: The mined neighbors of every image; None without them.
    """

    config: PretrainConfig
    images: ImageSet
    source: DeviceImages
    method: Method
    optimizer: torch.optim.Optimizer
    device: torch.device
    precision: Precision
    preprocessing: Preprocessing
    weights: WeightsFacts | None = None
    subset: Tensor | None = None
    neighbors: MinedNeighbors | None = None

    @property
    def recorded_device(self) -> str:
        """As a run remembers it: which of several GPUs a process has is no part of that."""
        return str(self.device) if num_processes() == 1 else self.device.type

    @property
    def num_samples(self) -> int:
        """Images that are trained on."""
        return self.images.num_samples if self.subset is None else len(self.subset)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the images."""
        return steps_per_epoch(num_samples=self.num_samples, batch_size=self.config.batch_size)

    def steps_of(self, epochs: float) -> int:
        """Optimizer steps in so many passes over the images, at least one."""
        return max(1, round(epochs * self.steps_per_epoch))

    def sample(self, step: int) -> tuple[int, Tensor]:
        """The epoch of a step, or its round over the classes, and the positions [B] of its images, on the CPU."""
        size, seed, per_class = self.config.batch_size, self.config.seed, self.config.train.images_per_class
        if per_class is None:
            epoch, order = batch_indices(step=step, num_samples=self.num_samples, batch_size=size, seed=seed)
        else:
            labels = self.images.labels if self.subset is None else self.images.labels[self.subset.numpy()]
            epoch, order = balanced_batch_indices(
                step=step, labels=labels, batch_size=size, images_per_class=per_class, seed=seed
            )
        return epoch, order if self.subset is None else self.subset[order]


def set_up_training(
    config: PretrainConfig,
    *,
    known: Manifest | None = None,
    progress: CountProgress | None = None,
    say: Say = silent,
) -> TrainingSetup:
    """Open the images, ask whether the configuration fits them, and build the method and its optimizer, seeded.

    A `known` run keeps the range of pictures that it began with.

    Raises:
        UsageError: If the configuration contradicts itself or the images.
        DataError: If the images are absent, unusable or too few.
    """
    keep_freed_memory()
    spec = load_method(config.method_name)
    check_against_method(config, spec)
    refuse_one_pass(config, resumed=known is not None)
    neighbors_file = None if config.neighbors is None else read_neighbors(config.neighbors)  # before the images: quick
    images = open_training_images(config, known=known, progress=progress, say=say)
    subset = labeled_subset(config, images) if spec.needs_labels else None
    labels = images.labels if subset is None else images.labels[subset.numpy()]
    config = fit_pieces(fit_batch(config, num_samples=len(labels), labels=labels))
    neighbors = None
    if config.neighbors is not None and neighbors_file is not None:
        neighbors = neighbors_of(images, neighbors_file, path=config.neighbors)
    say(f"building {config.method_name} on {config.encoder.name}")
    return build(config, images, subset=subset, neighbors=neighbors, known=known)


def check_against_method(config: PretrainConfig, spec: MethodSpec) -> None:
    """Ask, before the images are opened, whether the method can do what is asked of it.

    Raises:
        UsageError: If it cannot.
    """
    if config.train.label_fraction < 1 and not spec.needs_labels:
        raise UsageError(f"train.label_fraction is for methods that learn from labels; {config.method_name} does not")
    if config.train.freeze_epochs > 0 and not spec.has_encoder:
        raise UsageError(f"train.freeze_epochs holds an encoder, and {config.method_name} has none")


def open_training_images(
    config: PretrainConfig,
    *,
    known: Manifest | None = None,
    progress: CountProgress | None = None,
    say: Say = silent,
) -> ImageSet:
    """The split of the dataset that pretraining uses.

    Raises:
        DataError: If the files are absent or unusable, if all pictures are the same, or if needed labels are absent.
    """
    dataset = config.dataset
    assert dataset.size is not None, "the configuration was resolved"
    say(f"opening the images of {dataset.name}")
    split = find_dataset(dataset.name).pretrain_split
    size = dataset.stored_size or dataset.size
    images = open_images(
        dataset, split=split, size=size, framing=config.stored_framing, known=known, progress=progress, say=say
    )
    if images.num_samples > 1 and all(np.array_equal(image, images.images[0]) for image in images.images[1:]):
        raise DataError(
            f"all {images.num_samples} training images are the same picture, so nothing can be learned from them",
            hint="look into the folder of --data-dir",
        )
    spec = load_method(config.method_name)
    if spec.needs_labels and not images.has_labels:
        hint = f"{LABELS_HINT}, or take a method that needs no labels"
        raise DataError(
            f"{config.method_name} learns from labels, and {images.name} has none{images.why_no_labels}", hint=hint
        )
    if spec.needs_labels and len(np.unique(images.labels[images.labels >= 0])) < 2:
        raise DataError(
            f"{config.method_name} learns to tell classes apart, and all labels of split {images.split} are of one",
            hint=LABELS_HINT,
        )
    if config.train.images_per_class is not None and not images.has_labels:
        raise DataError(f"train.images_per_class draws by class, and {dataset.name} has no labels")
    return images


def refuse_other_groups(config: PretrainConfig, method: Method) -> None:
    """Ask that the groups make as many views as the method takes, of the size that it draws.

    Raises:
        UsageError: If they do not.
    """
    groups = config.groups_of(method.num_views)
    made = sum(group.count for group in groups)
    if made != method.num_views:
        both = f"set method.num_views to {made}, or counts of view_groups that add up to {method.num_views}"
        raise UsageError(
            f"view_groups make {made} views of an image, and {config.method_name} takes {method.num_views}",
            hint=both if hasattr(config.method, "num_views") else "change the counts",
        )
    if load_method(config.method_name).draws_images and any(
        group.pixels(config.usual_view_size) != config.dataset.size for group in groups
    ):
        raise UsageError(f"{config.method_name} draws the images it sees, so all views need the size of the images")


def build(
    config: PretrainConfig,
    images: ImageSet,
    *,
    subset: Tensor | None = None,
    neighbors: MinedNeighbors | None = None,
    known: Manifest | None = None,
) -> TrainingSetup:
    """The method with fresh weights drawn by the seed, the encoder's own if it has any, and its optimizer, on a device.

    A `known` run has a checkpoint of its weights, so that those it began with are not read again.

    Raises:
        UsageError: If neighbors or the size of the views do not fit the method.
        DataError: If `train.images_per_class` cannot fill a batch, or the weights do not fit the images.
    """
    dataset = config.dataset
    assert dataset.size is not None, "the configuration was resolved"
    device = local_device(choose_device(config.device))
    torch.manual_seed(config.seed)
    with memory_errors(device):
        preprocessing = preprocessing_of(config, images)
        facts = image_facts(images, size=dataset.size, channels=len(preprocessing.mean))
        encoder, weights = encoder_with_weights(config, facts, known=known)
        method = build_method(fresh_encoder(config), facts, encoder=encoder)
        method.to(device=device, memory_format=torch.channels_last).train()
        if config.train.batch_norm_processes > 1:
            synchronize_batch_norms(method)
        refuse_other_groups(config, method)
        refuse_hidden_state(method, config)
        parts = method.parts_per_side if isinstance(method, Splitting) else 1
        for size in {group.pixels(config.usual_view_size) // parts for group in config.groups_of(method.num_views)}:
            if size != dataset.size:
                check_view_size(encoder_of(method), name=config.encoder.name, channels=facts.channels, size=size)
    check_wanted(method, config)
    precision = choose_precision(config.train.precision, device)
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    setup = TrainingSetup(
        config=config,
        images=images,
        source=DeviceImages(images.images, device=device, channels=facts.channels),
        preprocessing=preprocessing,
        weights=weights,
        method=method,
        optimizer=build_optimizer(method, config.optim, lr=config.peak_learning_rate, precision=precision),
        device=device,
        precision=precision,
        neighbors=neighbors,
        subset=subset,
    )
    setup.sample(0)  # refuses what images_per_class cannot draw, before there is a run directory
    return setup


def image_facts(images: ImageSet, *, size: int, channels: int | None = None) -> ImageFacts:
    """What a method is told of the images; of gray ones, in how many channels it sees them."""
    seen = channels or images.channels
    return ImageFacts(count=images.num_samples, channels=seen, size=size, num_classes=len(images.classes))


def online_probe(setup: TrainingSetup) -> OnlineProbe:
    """The probe of the images that are trained on."""
    whitens = not load_method(setup.config.method_name).needs_labels
    return OnlineProbe.of(
        setup.images, setup.source, preprocessing=setup.preprocessing, seed=setup.config.seed, whitens=whitens
    )

"""What is trained, on which images, how: the parts of a pretraining put together, before there is a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.manifest import Manifest
from contrastive_cli.core.types import CountProgress, ImageFacts
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset, open_dataset
from contrastive_cli.data.loader import DeviceImages, balanced_batch_indices, batch_indices, steps_per_epoch
from contrastive_cli.embeddings.files import read_neighbors
from contrastive_cli.embeddings.probes.label_subsets import label_subset
from contrastive_cli.engine.allocator import keep_freed_memory
from contrastive_cli.engine.device import choose_device, memory_errors
from contrastive_cli.engine.optim import build_optimizer
from contrastive_cli.engine.precision import Precision, choose_precision
from contrastive_cli.methods import load_method
from contrastive_cli.models.encoders import check_view_size
from contrastive_cli.services.configuration import PretrainConfig, build_method
from contrastive_cli.services.training.mined_neighbors import MinedNeighbors, check_wanted, neighbors_of
from contrastive_cli.services.training.online_probe import OnlineProbe


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainee:
    """What is trained, on which images, how: everything but the run directory.

    Attributes:
        subset: [M] int64, positions of the images that are trained on; None for all.
        neighbors: The mined neighbors of every image; None without them.
    """

    config: PretrainConfig
    images: ImageSet
    source: DeviceImages
    method: Any
    optimizer: torch.optim.Optimizer
    device: torch.device
    precision: Precision
    subset: Tensor | None = None
    neighbors: MinedNeighbors | None = None

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


def prepare(config: PretrainConfig, *, known: Manifest | None = None, progress: CountProgress | None = None) -> Trainee:
    """Open the images and build the method and its optimizer, seeded; a `known` run keeps the range it began with."""
    keep_freed_memory()
    device = choose_device(config.device)
    dataset = config.dataset
    neighbors_file = None if config.neighbors is None else read_neighbors(config.neighbors)  # before the images: quick
    assert dataset.size is not None, "the configuration was resolved"
    spec = load_method(config.method_name)
    if config.train.label_fraction < 1 and not spec.needs_labels:
        raise UsageError(f"train.label_fraction is for methods that learn from labels; {config.method_name} does not")
    images = open_dataset(
        dataset.name,
        split=find_dataset(dataset.name).pretrain_split,
        data_dir=dataset.data_dir,
        size=dataset.stored_size or dataset.size,
        download=dataset.download,
        max_bad=dataset.max_bad,
        picture_range=dataset.range if known is None else known.range,
        bands=dataset.bands,
        progress=progress,
    )
    if images.num_samples > 1 and all(np.array_equal(image, images.images[0]) for image in images.images[1:]):
        raise DataError(
            f"all {images.num_samples} training images are the same picture, so nothing can be learned from them",
            hint="look into the folder of --data-dir",
        )
    if spec.needs_labels and not images.has_labels:
        hint = "put the images of each class into a folder of their own, or take a method that needs none"
        raise DataError(f"{config.method_name} learns from labels, and {dataset.name} has none", hint=hint)
    if config.train.images_per_class is not None and not images.has_labels:
        raise DataError(f"train.images_per_class draws by class, and {dataset.name} has no labels")
    subset = labeled_subset(config, images) if spec.needs_labels else None
    config = _fit_batch(config, num_samples=images.num_samples if subset is None else len(subset))
    per_class = config.train.images_per_class
    if per_class is not None and 2 * per_class > config.batch_size:
        raise UsageError(f"train.images_per_class {per_class} leaves no second class in a batch of {config.batch_size}")
    torch.manual_seed(config.seed)
    with memory_errors(device):
        method = build_method(config, image_facts(images, size=dataset.size))
        method.to(device=device, memory_format=torch.channels_last).train()
        if dataset.view_size not in (None, dataset.size):
            check_view_size(method.encoder, name=config.encoder.name, channels=images.channels, size=dataset.view_size)
    check_wanted(method, config)
    neighbors = None
    if config.neighbors is not None and neighbors_file is not None:
        neighbors = neighbors_of(images, neighbors_file, path=config.neighbors)
    precision = choose_precision(config.train.precision, device)
    trainee = Trainee(
        config=config,
        images=images,
        source=DeviceImages(images.images, device=device),
        method=method,
        optimizer=build_optimizer(method, config.optim, lr=config.peak_learning_rate, precision=precision),
        device=device,
        precision=precision,
        neighbors=neighbors,
        subset=subset,
    )
    trainee.sample(0)  # refuses what images_per_class cannot draw, before there is a run directory
    return trainee


def labeled_subset(config: PretrainConfig, images: ImageSet) -> Tensor | None:
    """Positions of the images that `train.label_fraction` leaves a method that learns from labels; None for all.

    Images without a label (-1) are left out. The subset is `label_subset`'s: the same as that of `clr linear-eval`.
    """
    fraction = config.train.label_fraction
    if fraction == 1 and (images.labels >= 0).all():
        return None
    return label_subset(torch.from_numpy(images.labels), fraction=fraction, seed=config.seed)


def _fit_batch(config: PretrainConfig, *, num_samples: int) -> PretrainConfig:
    """The configuration with a batch size; at most half of the images unless it was given, never more than few labels.

    Raises:
        DataError: If a given batch is larger than the images, and not for the label fraction alone.
    """
    size = config.train.batch_size
    if size is None:
        size = min(config.batch_size, max(2, num_samples // 2))
    elif config.train.label_fraction < 1:
        size = min(size, max(2, num_samples))
    steps_per_epoch(num_samples=num_samples, batch_size=size)  # refuses too few images
    return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": size})})


def image_facts(images: ImageSet, *, size: int) -> ImageFacts:
    """What a method is told of the images."""
    return ImageFacts(count=images.num_samples, channels=images.channels, size=size, num_classes=len(images.classes))


def online_probe(trainee: Trainee) -> OnlineProbe:
    """The probe of this trainee's images."""
    assert trainee.config.dataset.size is not None, "the configuration was resolved"
    images, seed = trainee.images, trainee.config.seed
    return OnlineProbe.of(images, trainee.source, size=trainee.config.dataset.size, seed=seed)

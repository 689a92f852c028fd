"""Which of the images a training sees, and how many of them make a batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.core.errors import UsageError
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.loader import images_per_round, steps_per_epoch
from contrastive_cli.embeddings.probes.label_subsets import label_subset
from contrastive_cli.services.configuration import PretrainConfig


def labeled_subset(config: PretrainConfig, images: ImageSet) -> Tensor | None:
    """Positions of the images that `train.label_fraction` leaves a method that learns from labels; None for all.

    Images without a label (-1) are left out. The subset is `label_subset`'s: the same as that of `clr linear-eval`.
    """
    fraction = config.train.label_fraction
    if fraction == 1 and (images.labels >= 0).all():
        return None
    return label_subset(torch.from_numpy(images.labels), fraction=fraction, seed=config.seed)


def fit_batch(config: PretrainConfig, *, num_samples: int, labels: NDArray[np.int64] | None = None) -> PretrainConfig:
    """The configuration with a batch size: the usual one, where the images are enough for it, unless one was given.

    Args:
        config: What was asked for.
        num_samples: Images that are trained on; half of them at most make a batch that was not given.
        labels: [N] theirs, where `train.images_per_class` draws by class: at most one round over the classes.

    Raises:
        DataError: If a given batch is larger than the images, and not for the label fraction alone.
        UsageError: If a batch has no room for a second class.
    """
    size, per_class = config.train.batch_size, config.train.images_per_class
    if size is None:
        size = min(config.batch_size, max(2, num_samples // 2))
        if per_class is not None and labels is not None:
            size = min(size, max(2, images_per_round(labels, images_per_class=per_class)))
    elif config.train.label_fraction < 1:
        size = min(size, max(2, num_samples))
    steps_per_epoch(num_samples=num_samples, batch_size=size)  # refuses too few images
    if per_class is not None and 2 * per_class > size:
        raise UsageError(f"train.images_per_class {per_class} leaves no second class in a batch of {size}")
    return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": size})})

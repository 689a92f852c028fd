"""Gaussian classes for the tests of classifiers."""

from __future__ import annotations

import torch
from torch import Tensor


def blobs(
    num_samples: int, num_dimensions: int, num_classes: int, *, seed: int = 0, spread: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Overlapping Gaussian classes, features of unequal scale and offset."""
    generator = torch.Generator().manual_seed(seed)
    centers = spread * torch.randn(num_classes, num_dimensions, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(num_samples) % num_classes
    features = centers[labels] + torch.randn(num_samples, num_dimensions, generator=generator)
    return features * torch.logspace(-2, 2, num_dimensions) + 5, labels

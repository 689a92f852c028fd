"""The one way from stored pixels to what a network sees."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from contrastive_cli.views.augment import to_input


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """Size, mean and standard deviation of a network's input; it belongs to the encoder and travels with it.

    Attributes:
        size: Side in pixels.
        mean: One number for each of the C channels, of pixels in [0, 1].
        std: C positive numbers.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """[B, C, H, W] uint8 -> [B, C, size, size] float32, resized and normalized; gray ones stand for all C."""
        if images.shape[1] == 1 < len(self.mean):
            images = images.expand(-1, len(self.mean), -1, -1)
        return to_input(images, size=self.size, mean=self.mean, std=self.std)

    def undo(self, images: Tensor) -> Tensor:
        """[B, C, H, W] normalized -> pixels in [0, 1] of the same size, not clamped."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return images * std + mean

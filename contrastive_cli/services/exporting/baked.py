"""The preparation of pictures as part of a network: pixels of any size in, what the encoder sees out.

Resizing is two products with matrices that depend on the size of the pictures, as Pillow's antialiased filters are, so
that height and width stay open in an exported graph. Pillow rounds to whole pixels after each pass, and so does this.
A JPEG that `clr` decodes may be shrunk by its decoder first, which changes pixels a little.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from contrastive_cli.services.exporting.source import Source

SUPPORTS = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
CUBIC = -0.5  # Pillow's parameter


class Baked(nn.Module):
    """[N, H, W, C] uint8 -> h [N, D]: the center square, resized, normalized, embedded.

    Args:
        source: What is exported.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, source: Source) -> None:
        super().__init__()
        said = source.preprocessing
        self.module = source.module
        self.side = source.model.manifest.decoded_size
        self.size, self.resize = source.size, source.raw_side
        own = source.model.manifest.framing is None
        self.rule, self.filter = "center" if own else said["rule"], said["interpolation"]
        self.register_buffer("mean", torch.tensor(said["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(said["std"])[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, H, W, C] uint8 -> [N, D] float32."""
        images = pixels.permute(0, 3, 1, 2).to(torch.float32)
        down, across = self._matrices(images)  # [S, H], [S, W]
        images = (images @ across.T).round().clamp(0, 255)
        images = (down @ images).round().clamp(0, 255)
        if self.side != self.size:
            square = (self.size, self.size)
            stretch = resize_matrix(torch.arange(self.side), first=0.0, step=self.side / self.size, size=self.size)
            images = (stretch @ images @ stretch.T).reshape(*images.shape[:2], *square)
        embedded: Tensor = self.module((images / 255 - self.mean) / self.std)
        return embedded

    def _matrices(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Those that make the square of rows and of columns: [S, H] and [S, W]."""
        rows, columns = (torch.arange(images.shape[axis], device=images.device) for axis in (2, 3))
        height, width = (line[-1].to(torch.float64) + 1 for line in (rows, columns))
        shorter = torch.minimum(height, width)
        matrices = []
        for line, length in ((rows, height), (columns, width)):
            if self.rule == "center":  # the rule of this package: a square of whole pixels, resized
                first, step = torch.floor((length - shorter) / 2), shorter / self.side
            else:
                resized = torch.floor(self.resize * length / (length if self.rule == "squash" else shorter))
                step = length / resized  # pixels of the picture for one of the resized
                first = torch.round((resized - self.side) / 2) * step
            matrices.append(resize_matrix(line, first=first, step=step, size=self.side, filter=self.filter))
        return matrices[0], matrices[1]


def resize_matrix(
    line: Tensor, *, first: Tensor | float, step: Tensor | float, size: int, filter: str = "bilinear"
) -> Tensor:
    """The antialiased resizing of one axis as a matrix [size, L] float32, each row of sum 1, as Pillow computes it.

    Args:
        line: The positions 0 .. L-1.
        first: Where the part that is resized begins, in pixels.
        step: Pixels of the axis for one of the result.
        size: Pixels of the result.
        filter: nearest, box, bilinear, hamming, bicubic or lanczos.
    """
    step = torch.as_tensor(step, dtype=torch.float64)
    center = first + (torch.arange(size, dtype=torch.float64, device=line.device) + 0.5) * step  # [size]
    if filter == "nearest":
        return (center.floor()[:, None] == line[None]).to(torch.float32)
    scale = step.clamp_min(1.0)
    distance = (line.to(torch.float64) + 0.5 - center[:, None]) / scale  # [size, L]
    weights = _weights(distance, filter)
    return (weights / weights.sum(dim=1, keepdim=True)).to(torch.float32)


def _weights(x: Tensor, filter: str) -> Tensor:
    """Pillow's filters at distances x, zero beyond their support."""
    inside = x.abs() < SUPPORTS[filter]
    if filter == "box":
        return ((x > -0.5) & (x <= 0.5)).to(torch.float64)
    if filter == "bilinear":
        values = 1 - x.abs()
    elif filter == "hamming":
        values = torch.sinc(x) * (0.54 + 0.46 * torch.cos(math.pi * x))
    elif filter == "bicubic":
        near = ((CUBIC + 2) * x.abs() - (CUBIC + 3)) * x.square() + 1
        far = (((x.abs() - 5) * x.abs() + 8) * x.abs() - 4) * CUBIC
        values = torch.where(x.abs() < 1, near, far)
    else:
        values = torch.sinc(x) * torch.sinc(x / 3)
    return torch.where(inside, values, torch.zeros_like(values))

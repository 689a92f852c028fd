"""How a picture becomes the square that an encoder wants to see: part of what travels with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import Field

from contrastive_cli.core.config import Config

ResizeRule: TypeAlias = Literal["shorter", "squash"]
"""`shorter` brings the shorter side to a length and keeps the shape; `squash` brings both sides to it."""

Interpolation: TypeAlias = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Pillow's, all of them antialiased but the first."""

LARGEST_SIDE = 4096
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Framing(Config):
    """Resize a picture, then cut the square out of its center, as the transforms of torchvision and timm do.

    Attributes:
        resize: Length in pixels that the rule speaks of; at least the side of the square.
        rule: Which sides are brought to that length.
        interpolation: How pixels are made of pixels.
    """

    resize: int = Field(ge=1, le=LARGEST_SIDE)
    rule: ResizeRule = "shorter"
    interpolation: Interpolation = "bicubic"

    def scaled(self, size: int, *, to: int) -> Framing:
        """The same part of a picture as this shows of `size` pixels, in `to` pixels."""
        return self if size == to else self.model_copy(update={"resize": max(to, self.resize * to // max(1, size))})

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a picture before the square is cut out of it."""
        if self.rule == "squash":
            return self.resize, self.resize
        short, long = min(width, height), max(width, height)
        longer = int(self.resize * long / short)  # rounded down, as torchvision does
        return (self.resize, longer) if width <= height else (longer, self.resize)

    def crop_fraction(self, size: int) -> float:
        """The part of the resized side that is seen, in (0, 1]; timm's `crop_pct`."""
        return size / self.resize


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderInput:
    """What an encoder was trained to see.

    Attributes:
        size: Side of the square in pixels.
        framing: How a picture becomes that square; None for the rule of this package.
        mean: One number for each channel, of pixels in [0, 1].
        std: One positive number for each channel.
        origin: Where these numbers come from, in words.
    """

    size: int
    framing: Framing | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str

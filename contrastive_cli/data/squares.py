"""Squares of uint8 made of pictures: by the rule of this package, or by the framing that comes with an encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contrastive_cli.core.framing import Framing

LARGEST_PART = 8  # of a resized picture, in squares: a strip of 1 to 1000 would fill the memory
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Square:
    """What a picture is to become.

    Attributes:
        size: Side in pixels; None keeps the picture as it is.
        channels: 3 for RGB, 1 for luma.
        framing: How; None resizes the shorter side to `size` (bilinear) and cuts the center out.
    """

    size: int | None
    channels: int
    framing: Framing | None = None

    @property
    def may_be_drafted(self) -> bool:
        """Whether a decoder may shrink the picture on the way, which changes pixels a little."""
        return self.framing is None

    def of(self, image: Image.Image) -> NDArray[np.uint8]:
        """A picture of mode L or RGB -> uint8 [C, S, S], or [C, H, W] where no size is asked for."""
        if self.size is not None and self.framing is not None:
            image = _framed(image, size=self.size, framing=self.framing)
        elif self.size is not None:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            box = (left, top, left + side, top + side)  # resizing the center square is resizing, then cropping
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
        mode = "L" if self.channels == 1 else "RGB"
        pixels = np.asarray(image if image.mode == mode else image.convert(mode), dtype=np.uint8)
        return pixels[None] if self.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resize_array(pixels: NDArray[np.uint8], *, size: int, framing: Framing | None = None) -> NDArray[np.uint8]:
    """Resize one uint8 [C, H, W] array to [C, size, size] as files are; unchanged when it has that size already."""
    if framing is None and pixels.shape[1:] == (size, size):
        return pixels
    channels = 1 if pixels.shape[0] == 1 else 3
    image = Image.fromarray(pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return Square(size=size, channels=channels, framing=framing).of(image)


def _framed(image: Image.Image, *, size: int, framing: Framing) -> Image.Image:
    """What torchvision makes by Resize and CenterCrop, to the last bit; of a strip without what is cut away."""
    width, height = framing.resized(*image.size)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    square, method = (size, size), _FILTERS[framing.interpolation]
    if width * height <= LARGEST_PART * framing.resize**2:
        whole = image if image.size == (width, height) else image.resize((width, height), method)
        return whole.crop((left, top, left + size, top + size))
    # Pillow computes the pixels of a box as those of the whole, but for the rounding of its corners.
    across, down = image.width / width, image.height / height
    return image.resize(square, method, box=(left * across, top * down, (left + size) * across, (top + size) * down))

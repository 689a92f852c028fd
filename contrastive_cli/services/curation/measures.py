"""What was seen of all pictures, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.inspection import LOOKED_SIDE
from contrastive_cli.data.looks import Look
from contrastive_cli.data.sources import BadFile
from contrastive_cli.services.curation.pictures import Pictures

Floats = NDArray[np.float64]
GRAY_COLOR = 0.01  # mean distance of the color channels up to which a picture is gray; JPEG leaves a trace of color


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measures:
    """M pictures that could be read.

    Attributes:
        rows: int64 [M], their numbers among all pictures.
        bad: The others, with their numbers.
        size: int64 [M, 2], width and height.
        mean: [M, 3] of the channels, in [0, 1].
        square: [M, 3], means of the squares.
        dark_end: [M], in [0, 1]; so are the next three.
        light_end: [M].
        contrast: [M].
        color: [M].
        entropy: [M] bits.
        sharpness: [M], independent of the size that a picture was looked at.
        gray: uint8 [M, 16, 16].
    """

    rows: NDArray[np.int64]
    bad: tuple[tuple[int, BadFile], ...]
    size: NDArray[np.int64]
    mean: Floats
    square: Floats
    dark_end: Floats
    light_end: Floats
    contrast: Floats
    color: Floats
    entropy: Floats
    sharpness: Floats
    gray: NDArray[np.uint8]

    @property
    def shorter(self) -> NDArray[np.int64]:
        """[M] pixels of the shorter side."""
        return np.minimum(self.size[:, 0], self.size[:, 1])

    @property
    def is_gray(self) -> NDArray[np.bool_]:
        """[M], whether a picture has no color."""
        return self.color < GRAY_COLOR

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, in [0, 1], every picture counting alike; one if all are gray."""
        mean = self.mean.mean(axis=0)
        std = np.sqrt(np.maximum(self.square.mean(axis=0) - mean**2, 0))
        channels = 1 if self.is_gray.all() else 3
        return tuple(mean[:channels].tolist()), tuple(std[:channels].tolist())


def measure_pictures(pictures: Pictures, *, progress: CountProgress | None = None) -> Measures:
    """Look at every picture once.

    Raises:
        DataError: If none can be read.
    """
    rows: list[int] = []
    looks: list[Look] = []
    bad: list[tuple[int, BadFile]] = []
    for index, found in enumerate(pictures.looks(progress=progress)):
        if isinstance(found, BadFile):
            bad.append((index, found))
        else:
            rows.append(index)
            looks.append(found)
    if not looks:
        raise DataError(f"none of the {len(bad)} pictures can be read: {bad[0][1].path!r} ({bad[0][1].reason})")

    def column(name: str) -> Floats:
        return np.array([getattr(look, name) for look in looks], np.float64)

    size = np.array([(look.width, look.height) for look in looks], np.int64)
    return Measures(
        rows=np.array(rows, np.int64),
        bad=tuple(bad),
        size=size,
        mean=column("mean"),
        square=column("square"),
        dark_end=column("dark_end"),
        light_end=column("light_end"),
        contrast=column("contrast"),
        color=column("color"),
        entropy=column("entropy"),
        # Natural pictures are as much sharper by the pixel as they are smaller, so the side is taken out.
        sharpness=column("sharpness") * np.minimum(size.min(axis=1), LOOKED_SIDE) / LOOKED_SIDE,
        gray=np.stack([look.gray for look in looks]),
    )

"""The map of embeddings as a value: all that is computed before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import ProjectionKind

UNLABELED = "unlabeled"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Thumbnails:
    """Small pictures of the images of a map.

    Attributes:
        pixels: uint8 [M, C, S, S], 1 or 3 channels.
        present: bool [M], False where there is no picture.
    """

    pixels: NDArray[np.uint8]
    present: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """S, pixels of a side."""
        return int(self.pixels.shape[-1])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Names:
    """A column of names: `codes` [M] int32 count into `names`, -1 where there is none."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Numbers:
    """A column of numbers: `values` [M] float32, NaN where there is none."""

    values: NDArray[np.float32]


Column = Names | Numbers


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EmbeddingMap:
    """M of the N embeddings of a file, laid out in the plane.

    Attributes:
        coordinates: [M, 2] float32 of each projection.
        chosen: [M] int64, the rows of the file.
        total: N.
        labels: [M] int64, -1 where unknown; None without labels.
        classes: The name of each label; may be empty.
        paths: M names of the images; None without names.
        neighbors: [M, K] int64, rows of this map, nearest first; None where they were not asked for.
        similarities: [M, K] float32 cosines of the neighbors.
        uncertainty: [M] float32, where the method has one.
        thumbnails: The pictures, where they were asked for and found.
        columns: What else is known of the images, by the name of the column.
        source: What was mapped: a file, or a dataset and its split.
        caption: How: how many, of which run, metric and seed.
        note: What is missing; may be empty.
    """

    coordinates: Mapping[ProjectionKind, NDArray[np.float32]]
    chosen: NDArray[np.int64]
    total: int
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    paths: tuple[str, ...] | None = None
    neighbors: NDArray[np.int64] | None = None
    similarities: NDArray[np.float32] | None = None
    uncertainty: NDArray[np.float32] | None = None
    thumbnails: Thumbnails | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    source: str = ""
    caption: str = ""
    note: str = ""

    def label_name(self, label: int) -> str:
        """The name of a label; its number if it has none."""
        if label < 0:
            return UNLABELED
        return self.classes[label] if label < len(self.classes) else str(label)

    def agreement(self) -> NDArray[np.float32] | None:
        """The part [M] of the labeled neighbors that have the image's own label, NaN where that is unknown."""
        if self.labels is None or self.neighbors is None:
            return None
        near = self.labels[self.neighbors]  # [M, K]
        known = (near >= 0).sum(axis=1)
        same = ((near == self.labels[:, None]) & (near >= 0)).sum(axis=1)
        return np.where((self.labels >= 0) & (known > 0), same / np.maximum(known, 1), np.nan).astype(np.float32)

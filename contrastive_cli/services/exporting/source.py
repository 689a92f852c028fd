"""What is exported: the module that embeds, what it wants to see, and pictures of the run to compare on."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.opened_pictures import array_square
from contrastive_cli.services.inference.image_files import decode_all, expand_paths
from contrastive_cli.services.inference.model import Model, embed_with_uncertainty
from contrastive_cli.services.inference.modules import embedding_module, embeds_by_encoder
from contrastive_cli.services.inference.splits import open_split

MOST_PIXELS = 100 * 224**2  # that are compared on: 100 pictures, fewer of larger ones
MOST_PICTURES, FEWEST_PICTURES = 100, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An encoder on its way out.

    Attributes:
        model: The run, loaded on the CPU in fp32, to which the export must be equal.
        module: [N, C, S, S] float32 -> h [N, D], on the CPU, in evaluation mode, its batch norms not folded.
        by_encoder: Whether h is the encoder's own output, with nothing after it.
        baked: Whether the export is to prepare pictures itself.
    """

    model: Model
    module: nn.Module
    by_encoder: bool
    baked: bool = False

    @property
    def size(self) -> int:
        """Side S of what the module sees, in pixels."""
        return self.model.manifest.size

    @property
    def channels(self) -> int:
        """C."""
        return self.model.channels

    @property
    def encoder(self) -> str:
        """The name of the encoder, as in a configuration."""
        return self.model.manifest.encoder

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.model.method.embedding_dim

    @property
    def raw_side(self) -> int:
        """Side in pixels of a square picture that is not resized before it is cut out."""
        framing = self.model.manifest.decoded_framing
        return self.model.manifest.decoded_size if framing is None else framing.resize

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How pictures become what the module sees, as plain JSON that stands beside the weights."""
        manifest = self.model.manifest
        framing = manifest.framing or Framing(resize=manifest.size, rule="shorter", interpolation="bilinear")
        return {
            "size": manifest.size,
            "channels": self.channels,
            "mean": list(manifest.mean),
            "std": list(manifest.std),
            **framing.model_dump(mode="json"),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """Pictures that are compared on, and what the run makes of them.

    Attributes:
        raw: uint8 [N, R, R, C]: of a side that is not resized before the square is cut out of them.
        squares: uint8 [N, C, S, S], those squares, as they are decoded.
        expected: float32 [N, D], their embeddings by the run in fp32.
    """

    raw: NDArray[np.uint8]
    squares: NDArray[np.uint8]
    expected: NDArray[np.float32]


def export_source(model: Model, *, baked: bool = False) -> Source:
    """The part of a run that is exported.

    Raises:
        UsageError: If the method has no encoder.
    """
    if not hasattr(model.method, "encoder"):
        raise UsageError(
            f"{model.manifest.method} has no encoder: it looks for the code of each picture, and that is no network",
            hint="export a run of another method",
        )
    model = replace(model, precision="fp32")
    module = copy.deepcopy(embedding_module(model)).to(memory_format=torch.contiguous_format).eval()
    return Source(model=model, module=module, by_encoder=embeds_by_encoder(model), baked=baked)


def compared_pictures(source: Source, paths: Sequence[Path], *, progress: CountProgress | None = None) -> Pictures:
    """The pictures that are named, else the first of the run's own dataset, and their embeddings.

    Raises:
        DataError: If there are none.
    """
    model, side = source.model, source.raw_side
    limit = max(FEWEST_PICTURES, min(MOST_PICTURES, MOST_PIXELS // source.size**2))
    pixels = _named(model, paths, limit=limit) if paths else _own(model, limit=limit)
    channels, manifest = source.channels, model.manifest
    raw = np.stack([array_square(picture.transpose(1, 2, 0), size=side, channels=channels) for picture in pixels])
    raw = np.ascontiguousarray(raw.transpose(0, 2, 3, 1))
    size, framing = manifest.decoded_size, manifest.decoded_framing
    squares = np.stack([array_square(picture, size=size, channels=channels, framing=framing) for picture in raw])
    expected, _ = embed_with_uncertainty(model, squares, progress=progress)
    return Pictures(raw=raw, squares=squares, expected=expected)


def _named(model: Model, paths: Sequence[Path], *, limit: int) -> NDArray[np.uint8]:
    pixels, _, bad = decode_all(model, expand_paths(paths).files[:limit])
    if not len(pixels):
        raise bad[0]
    return pixels


def _own(model: Model, *, limit: int) -> NDArray[np.uint8]:
    reason = ""
    for split in dict.fromkeys(("test", model.manifest.dataset.split)):
        try:
            images = open_split(model, split).images
        except (DataError, UsageError) as error:
            reason = reason or error.message
        else:
            return np.array(images[:: max(1, len(images) // limit)][:limit])
    raise DataError(
        f"there are no pictures to compare the export on: {reason}", hint="name some: clr export ... photos/"
    )

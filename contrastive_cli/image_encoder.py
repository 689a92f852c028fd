"""An encoder in a Python program: pictures in, vectors out. The numbers are those of `clr embed`, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contrastive_cli.core.choices import Layer
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.similarity import unit_rows
from contrastive_cli.services.inference.given_pictures import Pictures, listed_pictures, pixel_pieces
from contrastive_cli.services.inference.model import Model, embed_prepared, embed_with_uncertainty
from contrastive_cli.services.inference.modules import embedding_module

Part = tuple[NDArray[np.float32], NDArray[np.float32] | None]


class ImageEncoder:
    """A trained encoder; `contrastive_cli.load` makes one.

    Pictures are paths of files, PIL images, arrays [N, H, W, C] of uint8 (or one [H, W, C], or gray [H, W]), uint8
    tensors [N, C, H, W], or the float tensors that `preprocess` returns; lists of the first three may be mixed.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def __repr__(self) -> str:
        manifest = self._model.manifest
        return f"<ImageEncoder {self.name}: {manifest.encoder}, {self.embedding_dim} dimensions, {self.size} px>"

    @property
    def name(self) -> str:
        """The name of the run."""
        return self._model.run.name

    @property
    def run(self) -> Path:
        """The directory of the run."""
        return self._model.run.path

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self._model.method.embedding_dim

    @property
    def size(self) -> int:
        """Side in pixels of what `module` sees."""
        return self._model.manifest.size

    @property
    def module(self) -> nn.Module:
        """A plain module from [N, C, S, S], as `preprocess` returns it, to h [N, D]; evaluating, without gradients.

        To train it further: `module.requires_grad_(True).train()`. Its batch norms are not folded, and it computes in
        the number format of what it is given, so that it equals `encode` but for rounding.
        """
        return embedding_module(self._model)

    def encode(
        self,
        pictures: Pictures,
        *,
        batch_size: int = 64,
        normalize: bool = False,
        progress: bool = False,
        layer: Layer = "h",
    ) -> NDArray[np.float32]:
        """Embed pictures, in their order.

        Args:
            pictures: See the class; one alone gives one row.
            batch_size: About so many are decoded and held at once. It bounds the memory and never changes a number:
                what goes through the network together is what `clr embed` puts together.
            normalize: Scale every vector to length 1.
            progress: Show a bar on stderr.
            layer: h of the encoder, or z of the projector.

        Returns:
            float32 [N, D].

        Raises:
            DataError: If a picture cannot be read, with its path.
            UsageError: If the method has no projector and z is asked for.
        """
        parts = [vectors for vectors, _ in self._parts(pictures, batch_size, layer=layer, progress=progress)]
        vectors = np.concatenate(parts)
        return unit_rows(vectors).astype(np.float32) if normalize else vectors

    def uncertainty(self, pictures: Pictures, *, batch_size: int = 64, progress: bool = False) -> NDArray[np.float32]:
        """How unsure the method is of each picture: float32 [N], larger where it is less sure.

        Raises:
            UsageError: If the method has no uncertainty; prob-simclr and vae have one.
            DataError: If a picture cannot be read.
        """
        found: list[NDArray[np.float32]] = []
        for _, uncertainty in self._parts(pictures, batch_size, layer="h", progress=progress):
            if uncertainty is None:
                hint = "train prob-simclr or vae"
                raise UsageError(f"{self._model.manifest.method} has no uncertainty", hint=hint)
            found.append(uncertainty)
        return np.concatenate(found)

    def preprocess(self, pictures: Pictures) -> Tensor:
        """Pictures as `module` wants them: float32 [N, C, S, S], resized and normalized, on the CPU.

        Raises:
            DataError: If a picture cannot be read.
        """
        listed = listed_pictures(pictures)
        pieces = pixel_pieces(self._model, listed, at_once=len(listed))
        return torch.cat([self._model.preprocessing(torch.from_numpy(pixels)) for pixels in pieces])

    def _parts(self, pictures: Pictures, batch_size: int, *, layer: Layer, progress: bool) -> Iterator[Part]:
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}")
        with _counting(progress) as count:
            if isinstance(pictures, Tensor) and pictures.is_floating_point():
                images = self._checked(pictures)
                yield embed_prepared(self._model, images, layer=layer, progress=count)
                return
            listed, done = listed_pictures(pictures), 0
            for pixels in pixel_pieces(self._model, listed, at_once=batch_size):
                yield embed_with_uncertainty(self._model, pixels, layer=layer)
                done += len(pixels)
                count(done, len(listed))

    def _checked(self, images: Tensor) -> Tensor:
        expected = (self._model.channels, self.size, self.size)
        if images.ndim != 4 or images.shape[1:] != expected or not len(images):
            raise DataError(
                f"a float tensor must be [N, {', '.join(map(str, expected))}], not {list(images.shape)}",
                hint="give what `encoder.preprocess` returns, or uint8 pixels",
            )
        return images.to(torch.float32).contiguous(memory_format=torch.channels_last)


def _counting(progress: bool) -> AbstractContextManager[CountProgress]:
    from contrastive_cli.cli.console import Output

    return Output(quiet=not progress).counting("encoding")

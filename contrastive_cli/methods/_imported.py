"""What stands in the place of a method where an encoder was imported: it embeds, and there is nothing to train.

The name of the file keeps it off the list of methods.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from contrastive_cli.core.config import Config
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import Batch, ImageFacts, LossOutput, MethodSpec, Progress
from contrastive_cli.models.encoder import Encoder


class ImportedConfig(Config):
    """Nothing can be chosen."""

    name: Literal["imported"] = "imported"


class Imported(nn.Module):
    """An encoder as it came."""

    num_views = 1

    def __init__(self, config: ImportedConfig, *, encoder: Encoder, images: ImageFacts) -> None:
        super().__init__()
        del config, images
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """There is none.

        Raises:
            UsageError: Always.
        """
        del batch, progress
        raise UsageError("an imported encoder has no loss", hint="`clr pretrain --weights` trains it on by a method")

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> h [B, D]."""
        return self.encoder(images)


METHOD = MethodSpec(summary="an encoder as it came", config=ImportedConfig, build=Imported)

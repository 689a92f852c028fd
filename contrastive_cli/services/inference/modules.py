"""The part of a method that embeds, as a plain module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contrastive_cli.core.types import Method
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.services.inference.model import Model


class Embedding(nn.Module):
    """A method that is called for its embedding: [B, C, H, W] -> h [B, D]."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] normalized -> [B, D]."""
        return self.method.embed(images)


def embedding_module(model: Model) -> nn.Module:
    """The encoder where it is all that embeds; else the method, as a module that returns its embedding."""
    return encoder_of(model.method) if embeds_by_encoder(model) else Embedding(model.method)


def embeds_by_encoder(model: Model) -> bool:
    """Whether the embedding is the encoder's, with nothing after it: asked of two random pictures."""
    if not hasattr(model.method, "encoder"):
        return False
    side = model.manifest.size
    noise = torch.randn(2, model.channels, side, side, generator=torch.Generator().manual_seed(0)).to(model.device)
    with torch.no_grad():
        pair = model.method.embed(noise), encoder_of(model.method)(noise)
    return torch.equal(*(embedded.nan_to_num() for embedded in pair))

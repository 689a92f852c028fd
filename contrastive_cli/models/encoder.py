"""What an encoder is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from contrastive_cli.core.types import Method


class Encoder(nn.Module):
    """A torch module that takes images [B, C, H, W] to embeddings h [B, D]; D is `embedding_dim`."""

    embedding_dim: int

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Tensor:
            """[B, C, H, W] -> h [B, D]."""


def encoder_of(method: Method) -> Encoder:
    """The encoder of a method that has one.

    Raises:
        AttributeError: If it has none.
    """
    encoder = method.encoder  # type: ignore[attr-defined]  # a protocol cannot ask for a submodule since Python 3.12
    assert isinstance(encoder, nn.Module), "an encoder is a module"
    return encoder  # type: ignore[return-value]  # timm's encoders are given the attribute


def projector_of(method: Method) -> nn.Module | None:
    """The projector from h to z of a method that has one."""
    projector = getattr(method, "projector", None)
    return projector if isinstance(projector, nn.Module) else None

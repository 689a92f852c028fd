"""The few values that travel between packages. Shapes: V views, B batch, C H W image, D embedding, P projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One batch of views.

    Attributes:
        views: [V, B, C, H, W] float, normalised.
        indices: [B] int64, position of each sample in the training set.
        labels: [B] int64, -1 where unknown; None if the dataset has none.
    """

    views: Tensor
    indices: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where the training stands: `step` of `total_steps`, counted from zero."""

    step: int
    total_steps: int

    @property
    def fraction(self) -> float:
        """The part of the training that is done, in [0, 1)."""
        return self.step / max(1, self.total_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossOutput:
    """A scalar loss with a graph, and detached scalar tensors worth recording."""

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """What the engine needs of a method; the classes in `methods/` are also torch modules."""

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """The loss of one batch; never logs, never moves devices."""

    def after_step(self, progress: Progress) -> None:
        """Called once after each optimiser step (moving averages live here)."""

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] normalised images -> h [B, D]."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything a checkpoint must hold of the method."""

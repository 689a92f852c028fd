"""A queue of vectors of earlier batches, which a checkpoint holds like all buffers (MoCo, NNCLR)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VectorQueue(nn.Module):
    """The last Q vectors of length 1 that were pushed; before that, random ones stand in their places.

    Attributes:
        rows: [Q, P], unit length.
        position: Where the next vector goes.
        filled: How many rows were pushed, at most Q.
    """

    rows: Tensor
    position: Tensor
    filled: Tensor

    def __init__(self, size: int, *, dimension: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(size, dimension), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, vectors: Tensor) -> None:
        """Let vectors [M, P] of any length take the places of the oldest ones; of more than Q, the last Q are kept."""
        size = len(self.rows)
        kept = F.normalize(vectors[-size:].float(), dim=1).to(self.rows)
        places = (self.position + torch.arange(len(kept), device=self.rows.device)) % size
        self.rows[places] = kept
        self.position.copy_((self.position + len(kept)) % size)
        self.filled.copy_((self.filled + len(kept)).clamp(max=size))

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """For each of the unit vectors [M, P] the pushed one of largest cosine [M, P]; itself while there is none."""
        absent = torch.arange(len(self.rows), device=self.rows.device) >= self.filled
        cosines = (vectors @ self.rows.to(vectors).T).masked_fill(absent, -torch.inf)  # [M, Q]
        return torch.where(self.filled > 0, self.rows.to(vectors)[cosines.argmax(dim=1)], vectors)

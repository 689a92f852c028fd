"""Rows whose losses are known: computed from the papers' formulas in float64, and by other code where one is right."""

from __future__ import annotations

import torch
from torch import Tensor


def known_rows(shift: float) -> Tensor:
    """sin(shift + i^2 + 3 j + i j) of rows i = 0..5 and columns j = 0..2, [6, 3] float64."""
    row, column = torch.arange(6, dtype=torch.float64)[:, None], torch.arange(3, dtype=torch.float64)
    return torch.sin(shift + row**2 + 3 * column + row * column)


def known_views() -> Tensor:
    """Three views of six images, [3, 6, 3] float64."""
    return torch.stack([known_rows(1.0), known_rows(1.3), known_rows(0.8)])

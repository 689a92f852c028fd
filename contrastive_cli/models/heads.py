"""Heads on top of an embedding."""

from __future__ import annotations

from torch import nn


def build_projector(
    *, inputs: int, hidden: int, outputs: int, layers: int = 2, last_bias: bool = True
) -> nn.Sequential:
    """An MLP h [B, inputs] -> z [B, outputs] with batch norm after every hidden layer (SimCLR, section 4.2).

    Args:
        inputs: Width of the embedding.
        hidden: Width of the hidden layers.
        outputs: Width of the projection.
        layers: Number of linear layers, at least 1.
        last_bias: Give the last layer a bias; before another layer with batch norm it would do nothing.
    """
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        modules += [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        inputs = hidden
    return nn.Sequential(*modules, nn.Linear(inputs, outputs, bias=last_bias))

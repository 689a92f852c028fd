"""Choices that several rooms know: written once, from which options, checks and help follow."""

from __future__ import annotations

from typing import Literal, TypeAlias

Layer: TypeAlias = Literal["h", "z"]
"""Of an embedding: h of the encoder, or z of the projector."""

Average: TypeAlias = Literal["none", "mirror", "crops"]
"""Over what a picture's embedding is averaged: nothing, its mirror image, or that and crops around the center."""

SpaceKind: TypeAlias = Literal["raw", "whitened"]
"""Of embeddings: as the layer gives them, or in the space of their principal axes (`embeddings/space.py`)."""

Metric: TypeAlias = Literal["cosine", "euclidean"]
"""How far two vectors are apart."""

Precision: TypeAlias = Literal["fp32", "bf16"]
"""The number format that a network computes in."""

AskedPrecision: TypeAlias = Literal["auto", "fp32", "bf16"]
"""A `Precision`, or what the processor is good at."""

TrackerName: TypeAlias = Literal["tensorboard", "wandb", "mlflow", "trackio"]
"""A tracker of experiments."""

ProjectionKind: TypeAlias = Literal["tsne", "umap", "pca"]
"""How embeddings become a map of two dimensions."""

Reduction: TypeAlias = Literal["fast", "ordered"]
"""How several processes add their gradients: in the order that is fastest, or in that of one process."""

ThemeKind: TypeAlias = Literal["light", "dark"]
"""The ground that figures are drawn on."""

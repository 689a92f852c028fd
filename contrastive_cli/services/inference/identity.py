"""What an embeddings file says of the model that made it, and of how its images were prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_cli.core.choices import Layer

if TYPE_CHECKING:
    from contrastive_cli.services.inference.model import Model


def identity_of(model: Model, layer: Layer, *, crops: int = 1) -> dict[str, Any]:
    """What an embeddings file says of the model, and of what it was given."""
    return {
        "run": model.run.name,
        "checkpoint": model.checkpoint,
        "method": model.manifest.method,
        "encoder": model.manifest.encoder,
        "layer": layer,
        "space": "raw",
        "crops": crops,
    }


def preprocess_of(model: Model) -> dict[str, Any]:
    """What an embeddings file says of how images were prepared."""
    manifest = model.manifest
    framing = {} if manifest.framing is None else manifest.framing.model_dump()
    return {
        "size": manifest.size,
        **framing,
        "mean": list(manifest.mean),
        "std": list(manifest.std),
        **scaling_of(model),
    }


def scaling_of(model: Model) -> dict[str, Any]:
    """How values became eight bits and bands channels, where that is not by the type and the colors."""
    scaling = {"range": model.manifest.range, "bands": model.manifest.bands}
    return {key: np.array(value).tolist() for key, value in scaling.items() if value is not None}

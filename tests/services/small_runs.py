"""What keeps a training in a test small: settings, as `nested` reads them."""

from __future__ import annotations

from typing import Any

SMALL_RUN = {
    "encoder.name": "resnet9",
    "encoder.width": 4,
    "encoder.embedding_dim": 16,
    "device": "cpu",
    "train.precision": "fp32",
    "train.evaluations": 0,
}


def of_its_encoder(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without the shape of a resnet9 where another encoder is named."""
    if settings["encoder.name"] == "resnet9":
        return settings
    return {key: value for key, value in settings.items() if key not in ("encoder.width", "encoder.embedding_dim")}

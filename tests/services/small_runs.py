"""What keeps a training in a test small: settings, as `nested` reads them."""

from __future__ import annotations

SMALL_RUN = {
    "encoder.name": "resnet9",
    "encoder.width": 4,
    "encoder.embedding_dim": 16,
    "device": "cpu",
    "train.precision": "fp32",
    "train.evaluations": 0,
}

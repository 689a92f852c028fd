"""Weights that a run names instead of holding them, read anew from where they came from."""

from __future__ import annotations

import torch

from contrastive_cli.core.errors import RunError
from contrastive_cli.core.manifest import Manifest
from contrastive_cli.models.encoder import Encoder
from contrastive_cli.models.weights.loading import load_encoder
from contrastive_cli.services.configuration import PretrainConfig


def loaded_weights(config: PretrainConfig, manifest: Manifest, *, of: str) -> Encoder:
    """The encoder with the weights that a run was made from or began with, read anew from where they came from.

    Raises:
        RunError: If there are other weights now.
        DataError: If they are gone.
    """
    facts = manifest.weights
    assert facts is not None, "only such runs are asked for them"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(manifest.seed)
        encoder, now = load_encoder(config.encoder, channels=len(manifest.mean), size=manifest.size)
    if now.sha256 != facts.sha256:
        raise RunError(
            f"the weights {facts.source} are not those that {of} came with: sha256 {now.sha256[:12]}, not "
            f"{facts.sha256[:12]}",
            hint="bring the old ones back, or import these: --encoder NAME --weights FILE",
            path=facts.source,
        )
    return encoder

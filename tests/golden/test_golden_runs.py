"""A short run of every method gives the weights, losses and embeddings that are stored in `short_runs.json`.

Losses are compared everywhere. Bytes depend on the version of torch and on the processor; they are compared on machines
that the file names. `CLR_GOLDEN=write pytest tests/golden -n 0` measures the file again; the change log says why.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from contrastive_cli.core.config import nested
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.inference.model import embed_pixels, load_model
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import start_session

FILE = Path(__file__).parent / "short_runs.json"
SMALL = {
    "encoder.name": "resnet9",
    "encoder.width": 4,
    "encoder.embedding_dim": 16,
    "device": "cpu",
    "train.precision": "fp32",
    "train.evaluations": 1,
    "train.batch_size": 48,
    "train.epochs": 0.14,
}
NO_ENCODER = {key: value for key, value in SMALL.items() if not key.startswith("encoder.")}
# As the preset of the digits was when these were stored.
SIMCLR = {**SMALL, "method.temperature": 0.5, "optim.name": "adamw", "optim.lr": 2e-3}
RUNS: dict[str, dict[str, Any]] = {
    "simclr": {**SIMCLR},
    "simclr-micro-batches": {**SIMCLR, "train.micro_batch_size": 20, "method.num_views": 3},
    "simclr-muon-small-views": {**SIMCLR, "optim.name": "muon", "optim.momentum": 0.95, "dataset.view_size": 24},
    "prob-simclr": {**SMALL, "method.name": "prob-simclr"},
    "supcon": {**SMALL, "method.name": "supcon", "train.images_per_class": 6},
    "byol": {**SMALL, "method.name": "byol"},
    "byol-fastsiam": {**SMALL, "method.name": "byol", "method.targets": "views", "method.num_views": 3},
    "byol-simsiam-split": {**SMALL, "method.name": "byol", "method.target": "self", "method.split": True},
    "regularized": {**SMALL, "method.name": "regularized", "train.micro_batch_size": 20},
    "regularized-vicreg": {**SMALL, "method.name": "regularized", "method.regularizer": "vicreg"},
    "moco": {**SMALL, "method.name": "moco"},
    "moco-queue": {**SMALL, "method.name": "moco", "method.version": "v2+", "method.queue_size": 100},
    "nnclr": {**SMALL, "method.name": "nnclr", "method.queue_size": 100},
    "swav": {**SMALL, "method.name": "swav", "method.queue_size": 48},
    "dino": {**SMALL, "method.name": "dino"},
    "autoencoder": {**SMALL, "method.name": "autoencoder"},
    "vae": {**SMALL, "method.name": "vae"},
    "autodecoder": {**NO_ENCODER, "method.name": "autodecoder"},
    "supervised": {**SMALL, "method.name": "supervised", "train.label_fraction": 0.5},
}


def machine() -> str:
    """What bytes depend on."""
    amx = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}{', AMX' if amx else ''}"


def digest(tensors: dict[str, Tensor]) -> str:
    """One sha256 over names and bytes."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode() + tensor.detach().contiguous().cpu().numpy().tobytes())
    return sha.hexdigest()


def short_run(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train some steps on the digits, and embed images of them."""
    config = resolve(config=None, sets=nested(settings), flags={}).config
    session = start_session(config, out=out, overwrite=False)
    lines = [status.line for status in train_session(session)]
    losses = [line["train/loss"] for line in lines if line is not None]
    model = load_model(session.run, device="cpu")
    pixels = np.asarray(session.setup.images.images[:64])
    vectors = torch.from_numpy(embed_pixels(model, pixels))
    return {
        "losses": losses,
        "weights": digest(model.method.state_dict()),
        "embeddings": digest({"h": vectors}),
    }


@pytest.fixture(autouse=True)
def _one_thread_and_own_cache(clr_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CLR_CACHE", str(clr_cache))
    before = torch.get_num_threads()  # a resumed run elsewhere in this process may have set it
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", RUNS)
def test_short_run__is_what_it_was(name: str, tmp_path: Path) -> None:
    measured = short_run(RUNS[name], tmp_path / "run")
    stored = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("CLR_GOLDEN") == "write":
        entry = stored.setdefault(name, {"losses": measured["losses"], "bytes": {}})
        entry["losses"] = measured["losses"]
        entry["bytes"][machine()] = {key: measured[key] for key in ("weights", "embeddings")}
        FILE.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
        return
    assert measured["losses"] == pytest.approx(stored[name]["losses"], rel=1e-4, abs=1e-5)
    known = stored[name]["bytes"].get(machine())
    if known is not None:
        assert {key: measured[key] for key in known} == known

"""`config.json` beside an export: the architecture, and how pictures become what it sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contrastive_cli import __version__
from contrastive_cli.core.files import write_json
from contrastive_cli.services.exporting.source import Source
from contrastive_cli.views.augment import to_input

FILE = "config.json"


def describe(source: Source) -> dict[str, Any]:
    """Plain JSON."""
    return {
        "encoder": source.encoder,
        "embedding_dim": source.embedding_dim,
        "preprocessing": source.preprocessing,
        "run": source.model.run.name,
        "checkpoint_sha256": source.model.checkpoint,
        "clr": __version__,
    }


def write_description(source: Source, folder: Path, **more: Any) -> None:
    """Write `config.json`."""
    write_json(folder / FILE, describe(source) | more)


def prepared(folder: Path, squares: Any) -> Tensor:
    """uint8 [N, C, S, S] as `config.json` says that the network wants them: float32, normalized."""
    said = json.loads((folder / FILE).read_bytes())["preprocessing"]
    return to_input(torch.from_numpy(squares), size=said["size"], mean=said["mean"], std=said["std"]).contiguous()

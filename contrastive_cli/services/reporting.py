"""What has been trained and measured, and what this machine can do."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from contrastive_cli.core.manifest import Manifest, checkpoints_of
from contrastive_cli.core.runs import Run
from contrastive_cli.services.metrics import read_metrics


def summarize(run: Run) -> dict[str, Any]:
    """A run in a few numbers; None where there is none yet."""
    manifest = run.manifest()
    latest: dict[str, float] = {}
    for record in read_metrics(run):
        latest |= record
    return {
        "run": run.name,
        "status": manifest.status,
        "method": manifest.method,
        "encoder": manifest.encoder,
        "dataset": manifest.dataset.name,
        "step": manifest.step,
        "total_steps": manifest.total_steps,
        "seconds": manifest.seconds,
        "loss": latest.get("train/loss"),
        "online_knn": latest.get("online/knn"),
        "linear": _linear_accuracy(run, manifest),
    }


def _linear_accuracy(run: Run, manifest: Manifest) -> float | None:
    """Of a linear head on the newest checkpoint's features, with the most labels that it was measured with."""
    newest = [artifact.sha256 for _, artifact in checkpoints_of(manifest.artifacts)][:1]
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        found = json.loads((run.path / "eval" / f"linear-{manifest.dataset.name}.json").read_bytes())
        if found["checkpoint"] in newest:
            rows = [row for row in found["rows"] if row["features"] == "pretrained" and row["head"] == "linear"]
            return float(max(rows, key=lambda row: row["label_fraction"])["accuracy"])
    return None

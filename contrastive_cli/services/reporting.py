"""What has been trained and measured: a run in a few numbers."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Mapping
from typing import Any

from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.manifest import Manifest, newest_checkpoint
from contrastive_cli.core.runs import Run
from contrastive_cli.services.metrics import read_metrics


def summarize(run: Run) -> dict[str, Any]:
    """A run in a few numbers; None where there is none yet, or none such."""
    manifest = run.manifest()
    latest: dict[str, float] = {}
    for record in read_metrics(run):
        latest |= record
    config: Mapping[str, Any] = {}
    with contextlib.suppress(ClrError):
        config = run.config()
    return {
        "run": run.name,
        "status": manifest.status,
        "method": manifest.method,
        "temperature": _number_at(config, "method", "temperature"),
        "encoder": manifest.encoder,
        "dataset": manifest.dataset.name,
        "seed": manifest.seed,
        "precision": manifest.precision,
        "batch_size": _number_at(config, "train", "batch_size"),
        "step": manifest.step,
        "total_steps": manifest.total_steps,
        "epochs": latest.get("epoch"),
        "seconds": manifest.seconds,
        "loss": latest.get("train/loss"),
        "online_knn": latest.get("online/knn"),
        "spread": latest.get("online/spread"),
        "effective_rank": latest.get("online/effective_rank"),
        "linear": _linear_accuracy(run, manifest),
        "finetuned": _finetuned_accuracy(run, manifest),
        "parent": None if manifest.parent is None else manifest.parent.run,
    }


def describe_run(run: Run) -> tuple[dict[str, Any], list[tuple[str, str, int]]]:
    """How a run was made and what was measured on it; and its files: name, kind, bytes."""
    manifest = run.manifest()
    facts = {"path": str(run.path), **summarize(run)}
    facts |= {
        "images": manifest.dataset.count,
        "split": manifest.dataset.split,
        "classes": len(manifest.classes),
        "size": manifest.size,
        "device": manifest.device,
        "threads": manifest.threads,
        "started": manifest.started,
        "ended": manifest.ended,
        "command": shlex.join(manifest.command),
        "git": manifest.git,
        **{f"{name} version": version for name, version in manifest.versions.items()},
    }
    return facts, [(key, one.kind, one.bytes) for key, one in sorted(manifest.artifacts.items())]


def _number_at(config: Mapping[str, Any], part: str, key: str) -> float | None:
    """A number of a configuration that may have been edited."""
    node = config.get(part)
    value = node.get(key) if isinstance(node, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _linear_accuracy(run: Run, manifest: Manifest) -> float | None:
    """Of a linear head on the newest checkpoint's features, with the most labels that it was measured with."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        found = _result(run, manifest, "linear")
        rows = [row for row in found["rows"] if row["features"] == "pretrained" and row["head"] == "linear"]
        return float(max(rows, key=lambda row: row["label_fraction"])["accuracy"])
    return None


def _finetuned_accuracy(run: Run, manifest: Manifest) -> float | None:
    """Of the newest checkpoint of a finetuned run on the test split."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        return float(_result(run, manifest, "finetune")["accuracy"])
    return None


def _result(run: Run, manifest: Manifest, kind: str) -> dict[str, Any]:
    """What was measured on the newest checkpoint; raises LookupError where it was another one."""
    found: dict[str, Any] = json.loads((run.path / "eval" / f"{kind}-{manifest.dataset.name}.json").read_bytes())
    newest = newest_checkpoint(manifest.artifacts)
    if found["checkpoint"] not in newest:
        raise LookupError("another checkpoint")
    return found

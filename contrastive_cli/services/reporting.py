"""What has been trained and measured, and what this machine can do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.manifest import Manifest, checkpoints_of
from contrastive_cli.core.runs import Run, versions


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str


def read_metrics(run: Run) -> list[dict[str, float]]:
    """The whole lines of `metrics.jsonl`, numbers only; a last line cut off by a kill is left out."""
    file = run.path / "metrics.jsonl"
    records = []
    with contextlib.suppress(OSError):
        for line in file.read_bytes().splitlines() if file.is_file() else ():
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append({key: value for key, value in record.items() if _is_number(value)})
    return records


def summarise(run: Run) -> dict[str, Any]:
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e300  # which a NaN is not


def examine() -> list[Check]:
    """Everything that `clr doctor` looks at."""
    checks = [Check(name=name, ok=True, found=version) for name, version in versions().items()]
    looks = {
        "device": _device,
        "torchvision loads": _torchvision,
        "disk": _disk,
        "cache": _cache,
        "write": _write,
        "decoding": _decoding,
    }
    for name, look in looks.items():
        checks.append(_attempt(name, look))
    return checks


def _linear_accuracy(run: Run, manifest: Manifest) -> float | None:
    """Of a linear head on the newest checkpoint's features, with the most labels that it was measured with."""
    newest = [artifact.sha256 for _, artifact in checkpoints_of(manifest.artifacts)][:1]
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        found = json.loads((run.path / "eval" / f"linear-{manifest.dataset.name}.json").read_bytes())
        if found["checkpoint"] in newest:
            rows = [row for row in found["rows"] if row["features"] == "pretrained" and row["head"] == "linear"]
            return float(max(rows, key=lambda row: row["label_fraction"])["accuracy"])
    return None


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, found=look())
    except (ImportError, RuntimeError, OSError, ClrError) as error:
        return Check(name=name, ok=False, found=" ".join(str(error).split()))


def _device() -> str:
    import torch

    from contrastive_cli.engine.device import choose_device
    from contrastive_cli.engine.precision import choose_precision

    device = choose_device("auto")
    precision = choose_precision("auto", device)
    return f"{device}, {precision}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def _torchvision() -> str:
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" in str(error):
            raise RuntimeError(
                "torch and torchvision are of different builds (one for CPU only, one for CUDA); "
                "install both from one place"
            ) from error
        raise
    return str(torchvision.__version__)


def _decoding() -> str:
    from PIL import features

    missing = [name for name in ("jpg", "zlib", "webp", "libtiff") if not features.check(name)]
    if missing:
        raise RuntimeError(f"Pillow was built without {', '.join(missing)}")
    return "JPEG, PNG, WebP, TIFF"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    if free < 1e9:
        raise RuntimeError(f"only {free / 1e9:.1f} GB free")
    return f"{free / 1e9:.0f} GB free"


def _cache() -> str:
    from contrastive_cli.data.cache import cache_directory

    folder = cache_directory()
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{held / 1e6:.0f} MB of decoded images in {folder}, which may be deleted"


def _write() -> str:
    file = Path.cwd() / ".clr-doctor"
    write_atomically(file, b"ok")
    file.unlink()
    return f"{Path.cwd()} is writable"

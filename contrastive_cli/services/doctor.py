"""What this machine can do: everything that `clr doctor` looks at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.provenance import versions


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str


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
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise RuntimeError(f"{folder} cannot be written; set CLR_CACHE to a folder that can")
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{held / 1e6:.0f} MB of decoded images in {folder}, which may be deleted"


def _write() -> str:
    file = Path.cwd() / ".clr-doctor"
    write_atomically(file, b"ok")
    file.unlink()
    return f"{Path.cwd()} is writable"

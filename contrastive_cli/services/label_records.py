"""Which images had their labels used: written beside the results, so that every number can be traced to them."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.runs import Run
from contrastive_cli.services.records import enter_file


def indices_sha256(indices: NDArray[Any]) -> str:
    """The sha256 of positions as little-endian int64, in hex."""
    return hashlib.sha256(np.ascontiguousarray(indices, dtype="<i8").tobytes()).hexdigest()


def write_subsets(run: Run, name: str, subsets: Mapping[tuple[float, int], NDArray[Any]], *, keep: bool) -> Path:
    """Write positions by (label fraction, seed) to `eval/<name>.npz`; `keep` those of earlier calls beside them."""
    file = run.path / "eval" / f"{name}.npz"
    arrays: dict[str, NDArray[Any]] = {}
    if keep:
        with contextlib.suppress(OSError, ValueError), np.load(file, allow_pickle=False) as earlier:
            arrays |= {key: earlier[key] for key in earlier.files}
    arrays |= {f"fraction-{fraction:g}-seed-{seed}": indices for (fraction, seed), indices in subsets.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(file, buffer.getvalue())
    enter_file(run, file, kind="evaluation")
    return file

"""Result files of a run: written atomically, entered in its manifest."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import RunError
from contrastive_cli.core.files import write_atomically, write_json
from contrastive_cli.core.runs import Run


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
    register_artifact(run, file, kind="evaluation")
    return file


def write_result(run: Run, name: str, value: Mapping[str, Any]) -> Path:
    """Write `eval/<name>.json` into the run it evaluates."""
    file = run.path / "eval" / f"{name}.json"
    write_json(file, dict(value))
    register_artifact(run, file, kind="evaluation")
    return file


def register_artifact(run: Run, file: Path, *, kind: str) -> None:
    """Enter a file below the run's directory in its manifest; files elsewhere are the user's own.

    While the run is being trained its manifest belongs to the training, and the file stays without an entry.
    """
    if not file.is_file() or not file.resolve().is_relative_to(run.path.resolve()):
        return
    with contextlib.suppress(RunError), run.locked():
        run.add_artifact(run.path / file.resolve().relative_to(run.path.resolve()), kind=kind)

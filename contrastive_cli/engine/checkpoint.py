"""Checkpoints: written atomically, named in the manifest with their sha256, the last two kept.

`torch.load` checks no sums, so a flipped bit would load silently: a file is used only if its sha256 is the manifest's.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from contrastive_cli.core.errors import RunError, UnsafeFileError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.manifest import CHECKPOINT, Artifact, checkpoints_of
from contrastive_cli.core.runs import Run

KEEP = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint in memory: its content, its file's name and sha256, and the damaged newer ones passed over."""

    state: Mapping[str, Any]
    name: str
    sha256: str
    damaged: tuple[str, ...] = ()


def save_checkpoint(run: Run, state: Mapping[str, Any], *, step: int, seconds: float) -> Path:
    """Write the state after `step` steps; the manifest entry, written last, makes it count.

    Raises:
        RunError: If the disk is full or not writable; earlier checkpoints stay.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    path = run.path / "checkpoints" / f"step-{step:08d}.pt"
    sha256 = write_atomically(path, content)
    manifest = run.manifest()
    artifacts = dict(manifest.artifacts)
    artifacts[_key(run, path)] = Artifact(kind=CHECKPOINT, bytes=len(content), sha256=sha256, step=step)
    for key, _ in checkpoints_of(artifacts)[KEEP:]:
        del artifacts[key]
    run.write_manifest(manifest.model_copy(update={"artifacts": artifacts, "step": step, "seconds": seconds}))
    remove_orphans(run)
    return path


def load_checkpoint(run: Run) -> Checkpoint:
    """The newest checkpoint whose sha256 is the manifest's.

    Raises:
        RunError: If the run has no intact checkpoint.
        UnsafeFileError: If an intact one holds objects whose reading could run code; they are not made.
    """
    damaged: list[str] = []
    for key, artifact in checkpoints_of(run.manifest().artifacts):
        content = _read(run.path / key, artifact)
        if content is None:
            damaged.append(key)
            continue
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:  # whole, so it was written like this
            raise UnsafeFileError(
                f"checkpoint {run.path / key} holds more than tensors and plain values",
                hint="take the run from its author again, or train your own with `clr pretrain`",
                path=run.path / key,
            ) from error
        return Checkpoint(state=state, name=key, sha256=artifact.sha256, damaged=tuple(damaged))
    if damaged:
        raise RunError(
            f"every checkpoint of {run.path} is missing or damaged: {', '.join(damaged)}",
            hint="bring them back, or repeat the run: clr pretrain --config "
            f"{run.path / 'config.yaml'} --out {run.path} --overwrite",
            path=run.path,
        )
    raise RunError(f"run {run.path} has no checkpoint yet", hint="start it again with --overwrite", path=run.path)


@contextlib.contextmanager
def does_not_fit(run: Run, name: str) -> Iterator[None]:
    """Turn what torch raises when the state of a checkpoint is put into another model into one line.

    Raises:
        RunError: In its place.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"checkpoint {run.path / name} does not fit the configuration of its run: {reason}",
            hint="bring back the config.yaml and manifest.json that it was trained with",
            path=run.path / name,
        ) from error


def remove_orphans(run: Run) -> None:
    """Remove checkpoint files that no manifest entry names: pruned ones, and those of a killed writer."""
    known = run.manifest().artifacts
    for file in (run.path / "checkpoints").glob("*.pt"):
        if _key(run, file) not in known:
            file.unlink(missing_ok=True)


def _read(file: Path, artifact: Artifact) -> bytes | None:
    """The content, if it is what the manifest says; anything but a regular file of that size is not opened."""
    try:
        if not file.is_file() or file.stat().st_size != artifact.bytes:
            return None
        content = file.read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == artifact.sha256 else None


def _key(run: Run, file: Path) -> str:
    return file.relative_to(run.path).as_posix()

"""Checkpoints: written atomically, named in the manifest with their sha256, the last two kept.

`torch.load` checks no sums, so a flipped bit would load silently: a file is used only if its sha256 is the manifest's.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from contrastive_cli.core.containment import is_inside, refuse_what_leads_out, remove_own_checkpoints
from contrastive_cli.core.damage import TORCH_LOAD_ERRORS
from contrastive_cli.core.errors import RunError, UnsafeFileError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.manifest import CHECKPOINT, Artifact, checkpoints_of
from contrastive_cli.core.runs import Run

FOLDER = "checkpoints"
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
        RunError: If the disk is full or not writable, or the folder leads out of the run; earlier checkpoints stay.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    refuse_what_leads_out(run.path)
    path = run.path / FOLDER / f"step-{step:08d}.pt"
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
        RunError: If the run has no intact checkpoint, or an intact one is none of clr's.
        UnsafeFileError: If an intact one holds objects whose reading could run code; they are not made.
    """
    damaged: list[str] = []
    for key, artifact in checkpoints_of(run.manifest().artifacts):
        content = _read(run, key, artifact)
        if content is None:
            damaged.append(key)
            continue
        state = _decode(content, run.path / key)
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
def checkpoint_mismatch_errors(run: Run, name: str) -> Iterator[None]:
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
    """Remove checkpoint files that no manifest entry names: pruned ones, and those of a killed writer.

    Only what is named as `save_checkpoint` names it is removed, and only from a folder of the run itself.
    """
    named = {Path(key).name for key in run.manifest().artifacts if key.startswith(f"{FOLDER}/")}
    remove_own_checkpoints(run.path / FOLDER, kept=named)


def _decode(content: bytes, file: Path) -> Mapping[str, Any]:
    """The state in content whose sha256 is right, so that it was written like this."""
    hint = "take the run from its author again, or train your own with `clr pretrain`"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what it may do in other releases
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        message = f"checkpoint {file} holds more than tensors and plain values"
        raise UnsafeFileError(message, hint=hint, path=file) from error
    except TORCH_LOAD_ERRORS as error:
        message = f"checkpoint {file} is none that clr wrote: {type(error).__name__} while it was read"
        raise RunError(message, hint=hint, path=file) from error
    if not isinstance(state, Mapping):
        message = f"checkpoint {file} is none that clr wrote: it holds a {type(state).__name__}"
        raise RunError(message, hint=hint, path=file)
    return state


def _read(run: Run, key: str, artifact: Artifact) -> bytes | None:
    """The content, if it is what the manifest says; what is no file of the run, or of another size, is not opened."""
    file = run.path / key
    try:
        if not is_inside(file, run.path) or not file.is_file() or file.stat().st_size != artifact.bytes:
            return None
        content = file.read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == artifact.sha256 else None


def _key(run: Run, file: Path) -> str:
    return file.relative_to(run.path).as_posix()

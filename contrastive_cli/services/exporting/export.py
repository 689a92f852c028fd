"""Export a run: written beside its place, read again by the other library, compared, and only then put there.

`clr export` reaches this module.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contrastive_cli.core.errors import RunError
from contrastive_cli.core.files import TEMPORARY_SUFFIX, cannot_write, write_atomically
from contrastive_cli.core.types import CountProgress, Say, silent
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.exporting.agreement import Agreement, agreement
from contrastive_cli.services.exporting.formats import find_format
from contrastive_cli.services.exporting.model_card import FILE as CARD
from contrastive_cli.services.exporting.model_card import model_card
from contrastive_cli.services.exporting.source import compared_pictures, export_source
from contrastive_cli.services.inference.model import Model

OWN_SUFFIXES = (".safetensors", ".json", ".py", ".pth", ".onnx", ".pt2", ".md")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written, and how near it is to the run."""

    folder: Path
    files: tuple[str, ...]
    agreement: Agreement


def export(
    model: Model,
    *,
    form: str,
    out: Path,
    baked: bool = False,
    overwrite: bool = False,
    paths: Sequence[Path] = (),
    progress: CountProgress | None = None,
    say: Say = silent,
) -> Exported:
    """Write the encoder of a run into the folder `out`, which is there only if it is equal to the run.

    Args:
        model: The run, loaded on the CPU.
        form: safetensors, timm, torchvision, onnx or pt2.
        out: The folder; it must be absent, empty, or with `overwrite` an earlier export.
        baked: Whether the export prepares pictures itself.
        overwrite: Whether an earlier export may be replaced.
        paths: Pictures to compare on; none for those of the run's dataset.
        progress: Called with (pictures embedded, all of them).
        say: Called with what begins.

    Raises:
        UsageError: If the format cannot hold the encoder, or its library is not installed.
        DataError: If there are no pictures to compare on.
        ExportError: If the other library's vectors differ; nothing is left behind.
        RunError: If the folder is taken or cannot be written.
    """
    chosen = find_format(form, baked=baked)
    refuse_taken(out, overwrite=overwrite)
    source = export_source(model, baked=baked)
    say("embedding the pictures to compare on")
    pictures = compared_pictures(source, paths, progress=progress)
    with _beside(out) as folder:
        say(f"writing {form}")
        chosen.write(source, folder)
        say(f"reading it by {chosen.library()}")
        measured = agreement(pictures.expected, chosen.embed(folder, pictures), library=chosen.library())
        card = model_card(source, form=form, measured=measured, usage=chosen.usage(source))
        write_atomically(folder / CARD, card.encode("utf-8", "backslashreplace"))
        files = tuple(sorted(file.name for file in folder.iterdir()))
        _put(folder, out)
    for file in files:
        register_artifact(model.run, out / file, kind="export")
    return Exported(folder=out, files=files, agreement=measured)


def refuse_taken(out: Path, *, overwrite: bool) -> None:
    """Ask that nothing is lost where the folder is to be.

    Raises:
        RunError: If something is there that is not an earlier export, or is and is not to be replaced.
    """
    try:
        names = sorted(file.name for file in out.iterdir()) if out.is_dir() else []
    except OSError as error:
        raise cannot_write(out, error) from error
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file", hint="choose another --out", path=out)
    if not names:
        return
    is_export = CARD in names and all(name.endswith(OWN_SUFFIXES) or name == "__pycache__" for name in names)
    if not overwrite or not is_export:
        what = "an export" if is_export else f"other files, such as {names[0]!r}"
        hint = "pass --overwrite to replace it, or choose another --out" if is_export else "choose another --out"
        raise RunError(f"{out} holds {what}", hint=hint, path=out)


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A new folder beside the place, which is gone afterwards, whatever happens."""
    folder = out.absolute().parent / f".{out.name[:50]}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, out: Path) -> None:
    """Move a whole folder to its place; what was there, an earlier export, goes with the temporary one."""
    try:
        if out.is_dir():
            old = folder.with_name(f"{folder.name[: -len(TEMPORARY_SUFFIX)]}.old{TEMPORARY_SUFFIX}")
            out.rename(old)
            folder.rename(out)
            shutil.rmtree(old, ignore_errors=True)
        else:
            folder.rename(out)
    except OSError as error:
        raise cannot_write(out, error) from error

"""Taking a run directory away: only one that carries our manifest, and nothing that it leads to.

A link is never followed: neither the run's own name may be one, nor is what lies behind a link below it touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from contrastive_cli.core.errors import RunError
from contrastive_cli.core.runs import LOCK_FILE, Run

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """A run that can be removed: its files and their bytes, and those of them that its manifest does not name."""

    run: Run
    files: int
    bytes: int
    foreign: tuple[str, ...]


def plan_removal(run: Run) -> Removal:
    """Look at what would be removed; nothing is.

    Raises:
        RunError: If the run's name is a link, it holds another run, the work is being done in it, or it is no run.
    """
    if run.path.is_symlink():
        raise RunError(
            f"run {run.path} is a link to {os.path.realpath(run.path)}, and links are not followed",
            hint="give the directory itself",
            path=run.path,
        )
    manifest = run.manifest()
    home = Path(os.path.realpath(run.path))
    if Path(os.path.realpath(Path.cwd())).is_relative_to(home):
        raise RunError(f"run {run.path} is the folder you are in", hint="go to another folder first", path=run.path)
    files, size, foreign = 0, 0, []
    for folder, _, names in os.walk(home):
        for name in names:
            file = Path(folder) / name
            relative = file.relative_to(home).as_posix()
            if name == MANIFEST and relative != MANIFEST:
                raise RunError(
                    f"run {run.path} holds another run, {relative.rpartition('/')[0]}",
                    hint="move or remove that one first",
                    path=run.path,
                )
            files += 1
            size += file.lstat().st_size
            if relative not in manifest.artifacts and relative not in (MANIFEST, LOCK_FILE):
                foreign.append(relative)
    return Removal(run=run, files=files, bytes=size, foreign=tuple(sorted(foreign)))


def remove_run(run: Run) -> None:
    """Remove the directory of a run, its manifest last: one that was killed half-way can be removed again.

    Raises:
        RunError: If it cannot be removed by `plan_removal`, is in use, or a file of it cannot be removed.
    """
    plan_removal(run)
    try:
        with run.locked():
            for entry in sorted(os.scandir(run.path), key=lambda entry: entry.name):
                if entry.name not in (MANIFEST, LOCK_FILE):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)  # follows no link, and is safe against one put in its way
                    else:
                        Path(entry.path).unlink()
            (run.path / MANIFEST).unlink()
        with contextlib.suppress(FileNotFoundError):
            (run.path / LOCK_FILE).unlink()
        run.path.rmdir()
    except OSError as error:
        raise RunError(
            f"cannot remove {error.filename or run.path}: {error.strerror}",
            hint="what is left of the run can be removed once its rights allow it",
            path=run.path,
        ) from error

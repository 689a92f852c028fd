"""Nothing below a run leads out of it, so that nothing outside is read, written or removed in its name.

A run may come from a stranger, or its checkpoints may have been moved behind a link beside other files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container
from pathlib import Path

from contrastive_cli.core.errors import RunError

OWN_CHECKPOINT = re.compile(r"step-\d{8,16}\.pt")


def refuse_what_leads_out(run: Path) -> None:
    """Look at everything below a run, which may be a link itself.

    Raises:
        RunError: If there is a link out of it, or what is neither a file nor a folder (reading a FIFO waits for ever).
    """
    home = os.path.realpath(run)
    folders = [home] if Path(home).is_dir() else []
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if _refuse_entry(entry, home=home, run=run):
                        folders.append(entry.path)
        except OSError as error:
            raise RunError(
                f"cannot look into run {run}: {error.strerror}", hint="repair its rights", path=run
            ) from None
    _refuse_shared_lock(Path(home) / "run.lock", run=run)


def is_inside(file: Path, run: Path) -> bool:
    """Whether a path of a run, followed through all links, ends within the run."""
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(run))


def remove_own_checkpoints(folder: Path, *, kept: Container[str]) -> None:
    """Remove the files of a folder that are named as checkpoints are and are not among the names that are kept.

    A folder that is a link, or becomes one meanwhile, is left as it is.
    """
    by_descriptor = os.unlink in os.supports_dir_fd and os.listdir in os.supports_fd
    if not by_descriptor:  # Windows, where links need rights that few have
        if folder.is_dir() and not folder.is_symlink():
            for file in folder.iterdir():
                if OWN_CHECKPOINT.fullmatch(file.name) and file.name not in kept and not file.is_dir():
                    file.unlink(missing_ok=True)
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        for name in os.listdir(descriptor):  # noqa: PTH208 - of the folder that was opened, whatever its name is now
            if OWN_CHECKPOINT.fullmatch(name) and name not in kept:
                _unlink_file(name, descriptor)
    finally:
        os.close(descriptor)


def _unlink_file(name: str, folder: int) -> None:
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def _refuse_entry(entry: os.DirEntry[str], *, home: str, run: Path) -> bool:
    """Whether it is a folder to look into."""
    relative = os.path.relpath(entry.path, home)
    is_junction = getattr(entry, "is_junction", None)  # of Windows, known from Python 3.12 on
    if entry.is_symlink() or (is_junction is not None and is_junction()):
        target = os.path.realpath(entry.path)
        if not Path(target).is_relative_to(home):
            raise RunError(
                f"run {run} is refused: {relative} leads out of it, to {target}",
                hint="put the files themselves in the place of the link; nothing there was touched",
                path=run,
            )
        return False
    if entry.is_dir(follow_symlinks=False):
        return True
    if not entry.is_file(follow_symlinks=False):
        raise RunError(f"run {run} is refused: {relative} is neither a file nor a folder", hint="remove it", path=run)
    return False


def _refuse_shared_lock(lock: Path, *, run: Path) -> None:
    # A lock is emptied as it is taken: by some versions of filelock, and whatever other names the file has.
    try:
        found = lock.lstat()
    except OSError:
        return
    if found.st_nlink > 1 and found.st_size > 0:
        raise RunError(
            f"run {run} is refused: run.lock is a hard link to a file that is not empty", hint="remove it", path=run
        )

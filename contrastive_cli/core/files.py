"""The one way a file that matters is written: beside its place, synced, then renamed over it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import RunError, UsageError

TEMPORARY_SUFFIX = ".tmp-clr"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
TABLES = (".csv", ".jsonl")
SEEN = (".html", ".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")  # pages and figures
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_table(path: Path) -> bool:
    """Whether the suffix is that of a table for other programs."""
    return path.suffix.lower() in TABLES


def is_seen(path: Path) -> bool:
    """Whether the suffix is that of a page or a figure."""
    return path.suffix.lower() in SEEN


def write_atomically(path: Path, content: bytes) -> str:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file in the same directory, are flushed and synced, and the rename is synced too.

    Returns:
        The sha256 of the content, in hex.

    Raises:
        RunError: If the directory cannot be written or the disk is full; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name[:50]}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:  # what another has put in its place is neither followed nor emptied
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, error, size=len(content)) from error
    return hashlib.sha256(content).hexdigest()


def write_json(path: Path, value: Any) -> str:
    """Write `value` as indented JSON, atomically; returns the sha256 of the file."""
    return write_atomically(path, (json.dumps(value, indent=2) + "\n").encode("utf-8", "surrogateescape"))


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` survive a power cut (a no-op where directories cannot be opened)."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep_temporaries(directory: Path) -> None:
    """Remove what killed writers left behind; what another living process is writing just now stays."""
    for leftover in directory.rglob(f".*{TEMPORARY_SUFFIX}"):
        if not _is_being_written(leftover.name):
            with contextlib.suppress(OSError):
                leftover.unlink()


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that `write_atomically` begins with."""
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


def _is_being_written(name: str) -> bool:
    writer = name.rsplit(".", 3)[1]
    # os.kill would end a process of Windows, and this process is writing nothing now.
    if os.name != "posix" or not writer.isdecimal() or int(writer) in (0, os.getpid()):
        return False
    try:
        os.kill(int(writer), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        pass
    return True


def at_home(path: Path) -> Path:
    """The path with `~` and `~name` at its beginning as the home directory that they stand for.

    A file may be named `~backup.npy`: what is no user's name stays.

    Raises:
        UsageError: If it begins with `~` and there is no home directory.
    """
    text = os.fspath(path)
    if text.split("/")[0] != "~":
        return Path(os.path.expanduser(text)) if text.startswith("~") else path  # noqa: PTH111 - raises for no user
    try:
        return path.expanduser()
    except RuntimeError:
        hint = "set HOME, or give the path in full"
        raise UsageError(f"there is no home directory for {text!r}", hint=hint, path=path) from None


def delimiter_of(text: str) -> str:
    """What stands between the cells of a table by its first line: a comma, a semicolon or a tab."""
    return max(",;\t", key=text.partition("\n")[0].count)


def harmless_cell(text: str) -> str:
    """The text as a cell of a CSV file; a spreadsheet would run one that begins like a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def harmless_path(text: str) -> str:
    """A path as a cell of a CSV file that is read again: it names the same file, and no spreadsheet runs it."""
    return f"./{text}" if text.startswith(FORMULA_STARTS) else text


def cannot_write(path: Path, error: OSError, *, size: int | None = None) -> RunError:
    """Say in one line why `path` could not be written."""
    if error.errno in NO_SPACE:
        needed = "" if size is None else f" ({size / 1e6:.1f} MB needed)"
        return RunError(f"no space left to write {path}{needed}", hint="free some space and repeat", path=path)
    hint = "choose another place"
    if error.errno in NO_RIGHTS:  # as of a run that is read-only, for commands that have no --out
        hint = f"make {path.parent} writable, or choose another place"
    return RunError(f"cannot write {path}: {error.strerror or error}", hint=hint, path=path)

"""Errors that a person is meant to read: one line what is wrong, one line what to do, and an exit code.

Everything else that escapes is a bug and ends with exit code 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class ClrError(Exception):
    """An error shown to the user as one line, without a traceback.

    Args:
        message: What is wrong, with the offending value.
        hint: What to do about it; printed on a second line.
        path: The file or directory concerned, if there is one.
    """

    exit_code: int = 1
    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None, path: Path | str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.path = None if path is None else str(path)


class UsageError(ClrError):
    """A command line or configuration that cannot be followed."""

    exit_code = 2
    kind = "usage"


class DataError(ClrError):
    """Input data that cannot be used."""

    exit_code = 3
    kind = "data"


class UnsafeFileError(ClrError):
    """A file that was refused because reading it could run code or exhaust the machine."""

    exit_code = 4
    kind = "unsafe-file"


class RunError(ClrError):
    """A run directory that exists, is locked, full, read-only or corrupt."""

    exit_code = 5
    kind = "run-directory"


class TrainingError(ClrError):
    """A training that failed: not-a-number, out of memory."""

    exit_code = 6
    kind = "training"


class ExportError(ClrError):
    """An export that does not give what its run gives; nothing of it is left."""

    exit_code = 6
    kind = "export"


class Interrupted(ClrError):  # noqa: N818 - it is not an error of the program
    """A signal ended the work after everything was saved.

    Args:
        message: What was saved.
        signal_number: 2 for SIGINT, 15 for SIGTERM; the exit code is 128 more.
        hint: How to go on.
    """

    kind = "interrupted"

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number

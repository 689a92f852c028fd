"""Python files of one's own: imported when a person names them, and known again by their sha256.

A file is code. It is never imported because a run, a configuration or an embeddings file names it, since these may come
from a stranger: either a person named this path on the command line, or a person has named a file of this very sha256
on this machine before.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from contrastive_cli.core.errors import ClrError, UsageError
from contrastive_cli.core.files import write_json

MAX_BYTES = 10_000_000
KNOWN = "named-files.json"

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnCode:
    """A module, the file that it was read from, and the sha256 of that."""

    module: ModuleType
    file: Path
    sha256: str


def is_file_name(name: str) -> bool:
    """Whether what stands in the place of a name is a Python file."""
    return name.endswith(".py")


def import_file(file: Path) -> OwnCode:
    """Import a Python file, from the bytes whose sha256 is returned.

    Raises:
        UsageError: If it cannot be read, or raises.
    """
    file = file.expanduser().absolute()
    try:
        if not file.is_file():
            raise UsageError(f"there is no file {os.fspath(file)!r}", path=file)
        if file.stat().st_size > MAX_BYTES:
            raise UsageError(f"{file} is larger than {MAX_BYTES // 1_000_000} MB", path=file)
        source = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", path=file) from None
    digest = hashlib.sha256(source).hexdigest()
    name = f"clr_own_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "the suffix is .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up

    def run() -> None:
        exec(compile(source, os.fspath(file), "exec"), module.__dict__)

    guarded(run, where=os.fspath(file))
    return OwnCode(module=module, file=file, sha256=digest)


def guarded(call: Callable[[], Result], *, where: str, kind: type[ClrError] = UsageError) -> Result:
    """What a call into somebody's own code returns; what it raises becomes one line with the line of the file.

    Raises:
        ClrError: Of `kind`, in place of any exception.
    """
    try:
        return call()
    except ClrError:
        raise
    except Exception as error:  # noqa: BLE001 - it is not our code
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == where]
        if isinstance(error, SyntaxError) and error.filename == where:
            lines = [error.lineno]
        line = f":{lines[-1]}" if lines else ""
        text = " ".join(str(error).split())[:300]
        raise kind(f"{where}{line}: {type(error).__name__}: {text}") from None


def blamed(error: BaseException) -> str | None:
    """FILE:LINE if an exception was raised in a file of one's own, or in what that called in a library; else None."""
    own = {module.__dict__.get("__file__") for name, module in sys.modules.items() if name.startswith("clr_own_")}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def remember(code: OwnCode, folder: Path) -> None:
    """Write down that a person named this file; where the folder cannot be written, it has to be named again."""
    known = _known(folder)
    if known.get(code.sha256) != os.fspath(code.file):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / KNOWN, {**known, code.sha256: os.fspath(code.file)})
        except (OSError, ClrError):
            return


def recall(sha256: str, folder: Path) -> OwnCode | None:
    """The file of this sha256 that a person named before, if it is still there and the same."""
    path = _known(folder).get(sha256)
    try:
        if path is None or hashlib.sha256(Path(path).read_bytes()).hexdigest() != sha256:
            return None
    except OSError:
        return None
    code = import_file(Path(path))
    return code if code.sha256 == sha256 else None


def _known(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / KNOWN).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}

"""Running `clr` as a user would, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from clr_server import ask

REPOSITORY = Path(__file__).parents[1]
START_SECONDS, COMMAND_SECONDS = 120.0, 300.0
CPU = ["--device", "cpu", "--precision", "fp32"]
TINY = [
    "--set",
    "dataset.view_size=16",
    "--set",
    "encoder.width=4",
    "--set",
    "encoder.embedding_dim=32",
    "--batch-size",
    "128",
    *CPU,
]


@dataclass(frozen=True)
class Result:
    """What a finished command left: exit code and text."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)


Clr = Callable[..., Result]


def clr_environment(cache: Path) -> dict[str, str]:
    """A clean environment: own cache, one thread, the checkout importable, no color, no network."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("CLR_", "OMP_", "FORCE_COLOR", "COLUMNS", "LINES"))
    }
    importable = f"{REPOSITORY / 'tests' / 'no_network'}{os.pathsep}{REPOSITORY}"
    return {**kept, "CLR_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": importable, "NO_COLOR": "1"}


def clr_command(arguments: Sequence[str | Path]) -> list[str]:
    """The command line of `clr` in this interpreter."""
    return [sys.executable, "-m", "contrastive_cli", *map(str, arguments)]


@contextlib.contextmanager
def clr_server(folder: Path, *, cache: Path) -> Iterator[Path]:
    """The address, in the folder, of a process that runs `clr` in children of its own; see clr_server.py."""
    address = folder / "socket"
    program = str(REPOSITORY / "tests" / "clr_server.py")
    server = subprocess.Popen([sys.executable, program, str(address)], env=clr_environment(cache))
    end = time.monotonic() + START_SECONDS
    while not address.exists():
        assert server.poll() is None, "the server did not start"
        assert time.monotonic() < end, "the server did not start in time"
        time.sleep(0.05)
    yield address
    server.kill()
    server.wait()


def clr_of(address: Path, *, cache: Path) -> Clr:
    """Run `clr` with arguments in a directory and return what it said."""

    def run(*arguments: str | Path, cwd: Path) -> Result:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
            code = ask(
                address,
                arguments,
                cwd=cwd,
                environment=clr_environment(cache),
                streams=(nothing.fileno(), out.fileno(), err.fileno()),
                timeout=COMMAND_SECONDS,
            )
            return Result(code=code, out=_text(out), err=_text(err))

    return run


def run_all(clr: Clr, commands: Sequence[Sequence[str]], *, cwd: Path) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command."""
    done = [clr(*command, cwd=cwd) for command in commands]
    return [(result.code, result.out, result.err) for result in done]


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()

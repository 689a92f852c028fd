"""Running `clr` as a user would, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

REPOSITORY = Path(__file__).parents[1]
NUMBER_BYTES = 8  # of a number that the server says: a process, or its exit code
TINY = [
    "--set",
    "dataset.size=16",
    "--set",
    "encoder.width=4",
    "--set",
    "encoder.embedding_dim=32",
    "--batch-size",
    "128",
]
TINY += ["--device", "cpu", "--precision", "fp32"]


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
def clr_server(cache: Path) -> Iterator[Clr]:
    """Run `clr` in children of a process that has imported the libraries already; see clr_server.py."""
    here, there = socket.socketpair()
    server = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "tests" / "clr_server.py"), str(there.fileno())],
        env=clr_environment(cache),
        stdout=subprocess.DEVNULL,
        pass_fds=[there.fileno()],
    )
    there.close()
    here.settimeout(300)

    def run(*arguments: str | Path, cwd: Path) -> Result:
        request = json.dumps({"cwd": str(cwd), "arguments": [str(argument) for argument in arguments]}).encode()
        if len(request) > 1 << 15:  # more than one message of a socket: as the shell would
            finished = subprocess.run(
                clr_command(arguments), cwd=cwd, env=clr_environment(cache), capture_output=True, text=True, timeout=300
            )
            return Result(code=finished.returncode, out=finished.stdout, err=finished.stderr)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            socket.send_fds(here, [request], [out.fileno(), err.fileno()])
            child = _number(here)
            try:
                code = _number(here)
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                _number(here)
                raise
            return Result(code=code, out=_text(out), err=_text(err))

    try:
        yield run
    finally:
        here.close()
        server.wait(timeout=60)


def _number(channel: socket.socket) -> int:
    return int(channel.recv(NUMBER_BYTES, socket.MSG_WAITALL))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")

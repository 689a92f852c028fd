"""`clr` for many commands at little cost: a process that has imported everything forks a child for each of them.

    python clr_server.py SOCKET

The child is a process of its own, with the folder, environment, streams and arguments of whoever asks, and its exit
code goes back. `ask` does so for a test; `write_client` makes a program named `clr` that does, so that a shell cannot
tell it from the real one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = (
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "openTSNE",
    "rich.progress",
    "sklearn.datasets",
    "sklearn.linear_model",
    "torch._dynamo",  # the first step of any optimizer imports it
)
OWN = "contrastive_cli"  # all of its modules but the one that runs it
NOT_STARTED = b"98"
CLIENT = """#!{python} -SE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "little")], [0, 1, 2])
server.sendall(request)
sys.exit(int(server.recv(16) or {not_started!r}))
"""


def write_client(path: Path, *, address: Path) -> None:
    """Write the program."""
    path.write_text(CLIENT.format(python=sys.executable, address=str(address), not_started=NOT_STARTED))
    path.chmod(0o755)


def ask(
    address: Path,
    arguments: Sequence[str | Path],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    streams: Sequence[int],
    timeout: float,
) -> int:
    """Run a command with these streams (input, output, errors) and return its exit code; -N if signal N ended it."""
    request = json.dumps([str(cwd), [str(argument) for argument in arguments], dict(environment)]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(timeout)
        server.connect(str(address))
        socket.send_fds(server, [len(request).to_bytes(8, "little")], streams)
        server.sendall(request)
        return int(server.recv(16) or NOT_STARTED)


def serve(address: str) -> None:
    """Answer requests until the process is ended; returns in the children, as the command that was asked for."""
    package = importlib.import_module(OWN)
    own = [found.name for found in pkgutil.walk_packages(package.__path__, f"{OWN}.") if "__main__" not in found.name]
    for name in (*LIBRARIES, *own):
        with contextlib.suppress(ImportError):  # of an extra
            importlib.import_module(name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}-")
    server.listen()
    Path(f"{address}-").rename(address)  # whoever sees it can connect
    while True:
        connection, _ = server.accept()
        waiter = os.fork()
        if waiter == 0:
            server.close()
            child = os.fork()
            if child == 0:
                return become(connection)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            connection.sendall(str(code).encode())
            os._exit(0)
        connection.close()
        _reap()


def become(connection: socket.socket) -> None:
    """Take on what the request says."""
    length, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int.from_bytes(length, "little"):
        request += connection.recv(1 << 16)
    connection.close()
    folder, arguments, environment = json.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(Path(__file__).parents[1] / "contrastive_cli" / "__main__.py"), *arguments]
    import numpy as np

    np.random.seed()  # noqa: NPY002  (else every child would draw the same numbers)


def _reap() -> None:
    """Forget the waiters that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    serve(sys.argv[1])
    from contrastive_cli.cli import run

    run()

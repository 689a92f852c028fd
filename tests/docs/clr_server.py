"""`clr` for many commands at little cost: a process that has imported everything forks a child for each of them.

    python clr_server.py SOCKET

`write_client` makes a program named `clr` that hands its arguments, environment, folder and streams to the server and
ends with the exit code of the child, so that a shell cannot tell it from the real one.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

SERVICES = ("evaluation.linear_eval", "figures.figures", "inference.similarity", "training.finetuning", "training.loop")
LIBRARIES = ("matplotlib.backends.backend_agg", "matplotlib.figure", "openTSNE", "sklearn.datasets")
IMPORTED = (*LIBRARIES, *(f"contrastive_cli.services.{name}" for name in SERVICES))
CLIENT = """#!{python} -SE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "little")], [0, 1, 2])
server.sendall(request)
sys.exit(int(server.recv(16) or b"98"))
"""


def write_client(path: Path, *, address: Path) -> None:
    """Write the program."""
    path.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    path.chmod(0o755)


def serve(address: str) -> None:
    """Answer requests until the process is ended."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 98
            try:
                code = answer(connection)
            except BaseException:  # noqa: BLE001 - the child must not go on as a server
                traceback.print_exc()
            finally:
                connection.sendall(str(code).encode())
                os._exit(0)
        connection.close()


def answer(connection: socket.socket) -> int:
    """Run one command in this process; returns its exit code."""
    length, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int.from_bytes(length, "little"):
        request += connection.recv(1 << 16)
    folder, arguments, environment = json.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["clr", *arguments]
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        return end.code if isinstance(end.code, int) else 0
    return 0


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    from contrastive_cli.cli import main

    serve(sys.argv[1])

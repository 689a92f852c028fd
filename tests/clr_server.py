"""A process that has imported the libraries of `clr` and forks itself for each command of a test.

A command of a test takes seconds to import torch and milliseconds to do what the test asks. The child is a process of
its own, with its own directory, output and exit code, and imports `contrastive_cli` itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import socket
import sys

from clr_process import NUMBER_BYTES

# What `clr pretrain` and the commands that evaluate import in any case: the libraries, never our own modules.
LIBRARIES = (
    "torch",
    "torch._dynamo",  # the first step of any optimizer imports it
    "torchvision",
    "pydantic",
    "rich.progress",
    "rich.table",
    "typer",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.linear_model",
    "PIL.Image",
    "matplotlib.figure",
)


def serve(channel: socket.socket) -> list[str] | None:
    """Fork for every request, and return its arguments in the child; None in the server, when the tests are over."""
    while True:
        request, files, _, _ = socket.recv_fds(channel, 1 << 16, 2)
        if not request:
            return None
        child = os.fork()
        if child == 0:
            channel.close()
            asked = json.loads(request)
            os.chdir(asked["cwd"])
            os.dup2(files[0], 1)
            os.dup2(files[1], 2)
            for file in files:
                os.close(file)
            return [str(argument) for argument in asked["arguments"]]
        for file in files:
            os.close(file)
        channel.sendall(b"%*d" % (NUMBER_BYTES, child))
        _, status = os.waitpid(child, 0)
        channel.sendall(b"%*d" % (NUMBER_BYTES, os.waitstatus_to_exitcode(status)))


def main() -> None:
    """Serve the socket whose descriptor is named; the child becomes `python -m contrastive_cli`."""
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):  # `make oldest` and others may lack one
            importlib.import_module(library)
    arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    if arguments is None:
        return
    import numpy as np

    np.random.seed()  # noqa: NPY002  (else every child would draw the same numbers)
    sys.argv = ["clr", *arguments]
    runpy.run_module("contrastive_cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""Commands of `clr`, each in a fork of one process that has imported everything: many of them cost little.

    python forked_commands.py FOLDER < [["knn", "x.pkl"], ...]

Prints a list of [exit code, stdout, stderr].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import contrastive_cli.services.evaluation.linear_eval
import contrastive_cli.services.figures.figures
import contrastive_cli.services.inference.similarity
import contrastive_cli.services.training.finetuning
import contrastive_cli.services.training.loop  # noqa: F401 - imported for the forks
from contrastive_cli.cli import main


def forked(arguments: list[str]) -> tuple[int, str, str]:
    """Run `clr` with these arguments in a child."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["clr", *arguments]
            try:
                main()
            except SystemExit as end:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else 99)
            finally:
                os._exit(98)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return code, said[0], said[1]


if __name__ == "__main__":
    commands = json.load(sys.stdin)
    os.chdir(sys.argv[1])
    print(json.dumps([forked(command) for command in commands]))

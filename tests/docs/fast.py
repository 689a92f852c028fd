"""All that is changed in the commands of the documents before the tests run them. Keep it short: what is not here runs
as it is written.
"""

from __future__ import annotations

import re
import subprocess

from pages import REPOSITORY

SMALL = "--set encoder.width=4 --set encoder.embedding_dim=32 --set train.evaluations=1 --device cpu --precision fp32"
SUBSTITUTIONS = (
    (r"(--budget|--epochs) [0-9]\S*", "--epochs 1"),  # a minute or a hundred passes become one pass
    (r"(--resume \S+) --epochs 1", r"\1 --epochs 2"),  # longer than the one pass that it was
    (r"--batch-size 4096 --micro-batch-size 128", "--batch-size 64 --micro-batch-size 16"),  # data/ has 300 images
    (r"--label-fraction 0\.01,0\.05,0\.1,1", "--label-fraction 0.05,0.1 --seeds 1"),
    (r"--count 3000", "--count 40"),  # pairs of the few faces of data/
    (r"runs/NAME", "$(ls -dt runs/*/ | head -1)"),  # the reader's own run
)
NEEDS_LENGTH = re.compile(r"^clr (pretrain(?!.*--(resume|plan|config runs))|finetune)(?!.*--epochs)")
NEEDS_SMALL = re.compile(r"^clr pretrain(?!.*--(resume|config runs))")


def fast(line: str) -> list[str]:
    """A line of a block as the lines that the tests run."""
    if line.startswith("make "):
        return expanded(line.partition("#")[0].split()[1])
    for pattern, replacement in SUBSTITUTIONS:
        line = re.sub(pattern, replacement, line)
    command, hash_sign, notice = line.partition("  #")
    if NEEDS_LENGTH.search(command):
        command += " --epochs 1"
    if NEEDS_SMALL.search(command):
        command = command.replace("clr pretrain", f"clr pretrain {SMALL}", 1)
    return [command + hash_sign + notice]


def expanded(target: str) -> list[str]:
    """The `clr` commands of a target of the Makefile: what it installs is there, and what it tests runs anyway."""
    installed = ["--assume-old=.venv/installed", "--assume-old=.venv/installed-dev"]
    command = ["make", "--dry-run", "--no-print-directory", *installed, target]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [part for line in finished.stdout.splitlines() if line.startswith("clr ") for part in fast(line)]

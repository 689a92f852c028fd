"""Seconds until a command is done, in turns with the imports that it cannot do without; medians.

    OMP_NUM_THREADS=2 python -m benchmarks.startup [--rounds 7]

A moment of training on the embedded digits comes first, with `resnet9` and with `resnet18`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.record import Row, record

CLR = ["-m", "contrastive_cli"]


def main() -> None:
    """Print one line per command, with the import that it is measured against."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        pair = [str(folder / "a.png"), str(folder / "b.png"), "--device", "cpu"]
        commands = {
            "import torch": ["-c", "import torch"],
            "import torchvision": ["-c", "import torchvision"],
            "clr --help": [*CLR, "--help"],
            "clr knn --metric taxi (usage error)": [*CLR, "knn", "x.npy", "--metric", "taxi"],
            "clr knn missing.npy (data error)": [*CLR, "knn", str(folder / "missing.npy")],
            "clr knn, 2,000 x 64": [*CLR, "knn", str(folder / "small.npy")],
            "clr similarity, resnet9": [*CLR, "similarity", *pair, "--run", str(folder / "resnet9")],
            "clr similarity, resnet18": [*CLR, "similarity", *pair, "--run", str(folder / "resnet18")],
        }
        taken: dict[str, list[float]] = {label: [] for label in commands}
        for _ in range(options.rounds):
            for label, command in commands.items():
                started = time.perf_counter()
                subprocess.run([sys.executable, *command], capture_output=True, check=False)
                taken[label].append(time.perf_counter() - started)
    against = {"clr similarity, resnet9": "import torch", "clr similarity, resnet18": "import torchvision"}
    for label, times in taken.items():
        line = f"{label}: {statistics.median(times):.3f} s (from {min(times):.3f} to {max(times):.3f})"
        if label in against:
            more = statistics.median(a - b for a, b in zip(times, taken[against[label]], strict=True))
            line += f", {more:+.3f} s over {against[label]}"
        print(line)
    if options.record:
        rows = []
        for label, times in taken.items():
            if label.startswith("clr"):
                peer = against.get(label, "")
                theirs = statistics.median(taken[peer]) if peer else None
                row = Row(
                    what=f"`{label}`",
                    clr=statistics.median(times),
                    unit="s",
                    peer=peer,
                    theirs=theirs,
                    rounds=options.rounds,
                )
                rows.append(row)
        record("startup", rows, threads=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


def make_files(folder: Path) -> None:
    """Two images, a small table and two runs."""
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(generator.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / name)
    np.save(folder / "small.npy", generator.standard_normal((2000, 64), dtype=np.float32))
    for encoder in ("resnet9", "resnet18"):
        command = [*CLR, "pretrain", "--encoder", encoder, "--budget", "5s", "--batch-size", "64", "--device", "cpu"]
        subprocess.run([sys.executable, *command, "--out", str(folder / encoder), "--quiet"], check=True)


if __name__ == "__main__":
    main()

"""The benchmark for a lent GPU must not fail for the first time on it: here it runs on the CPU, with small sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from clr_process import REPOSITORY, clr_environment
from PIL import Image


def test_gpu_benchmark__runs_through_on_small_sizes(tmp_path: Path, clr_cache: Path) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 70), ("test", 10)):
        for label in ("a", "b"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(generator.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(
                    folder / f"{number}.png"
                )
    parts = ["commands", "optimizers", "speed", "simclr", "muon", "fastsiam", "sigreg"]
    command = [sys.executable, "-m", "benchmarks.gpu", *parts, "--data-dir", str(tmp_path), "--minutes", "0"]
    environment = {**clr_environment(clr_cache), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("clr ") and "exit code 0" not in line] == []
    assert sum(line.startswith("clr ") for line in lines) == 3
    begun = [line.split()[0].rstrip(",") for line in lines if line]
    assert [name for name in begun if name in {"sgd", "adamw", "lars", "muon"}][:4] == ["sgd", "adamw", "lars", "muon"]
    assert begun.count("step") == 5
    assert begun.count("loss") == 1
    assert [line.split()[0] for line in lines if "linear head" in line] == ["simclr", "muon", "fastsiam", "sigreg"]

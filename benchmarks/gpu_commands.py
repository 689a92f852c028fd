"""Whether `clr`'s commands work on a GPU: what no test on a CPU can say. Each in a process of its own, as people do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from contrastive_cli.core.config import list_presets

SECONDS = 90  # after which a command is given up


def commands(*, small: bool) -> bool:
    """Every method for two epochs on the embedded digits, then what is done with a run; whether all went well."""
    presets = [preset.stem for preset in list_presets() if preset.stem.startswith("digits-")]
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch)
        trained = {name: ["pretrain", "--config", name] for name in (["digits-simclr"] if small else presets)}
        if not small:
            trained["in pieces"] = ["pretrain", "--micro-batch-size", "64"]
            trained["compiled"] = ["pretrain", "--compile"]
            trained["multi-crop"] = ["pretrain", "--method", "swav", "--encoder", "resnet18"]
        short = ["--epochs", "0.2" if small else "2", "--set", "train.evaluations=1"]
        first = [
            (name, [*words, *short, "--out", str(runs / name.replace(" ", "-"))]) for name, words in trained.items()
        ]
        run, vectors = runs / "digits-simclr", runs / "digits.npz"
        after = [
            ("embed", ["embed", "--run", str(run), "--out", str(vectors)]),
            ("linear-eval", ["linear-eval", "--run", str(run), "--head", "linear,mlp,knn", "--label-fraction", "0.1"]),
            ("finetune", ["finetune", "--run", str(run), "--epochs", "1", "--out", str(runs / "finetuned")]),
            ("resume", ["pretrain", "--resume", str(run), "--epochs", "3"]),
        ]
        with_vectors = [("knn", ["knn", str(vectors)]), ("plot", ["plot", "embeddings", str(vectors)])]
        stages = [first, after[:1] if small else after, with_vectors[:1] if small else with_vectors]
        return all(_stage(stage, at_once=1 if small else 8) for stage in stages)  # what follows needs what went before


def _stage(named: Sequence[tuple[str, list[str]]], *, at_once: int) -> bool:
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return all(list(pool.map(lambda each: _command(*each), named)))


def _command(name: str, words: list[str]) -> bool:
    """Run it, and say its exit code, seconds, and the end of what it wrote if it failed."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "contrastive_cli", *words, "--quiet"]
    try:
        done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=SECONDS, check=False)
        code, told = done.returncode, done.stderr
    except subprocess.TimeoutExpired:
        code, told = -1, f"not done after {SECONDS} s"
    print(f"clr {words[0]}, {name}: exit code {code}, {time.perf_counter() - started:.0f} s", flush=True)
    if code != 0:
        print(told[-1500:], flush=True)
    return code == 0

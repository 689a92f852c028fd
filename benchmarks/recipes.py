"""Variants of a CIFAR-10 preset at equal computing time, judged on images held out of the training split.

    python -m benchmarks.recipes time  --data-dir DIR dataset.view_size=24          (alone on the machine)
    python -m benchmarks.recipes run   --data-dir DIR --out FILE --steps N --name NAME dataset.view_size=24 ...
    python -m benchmarks.recipes table --out FILE

A variant is the base below with some settings changed; the base is what the presets were before this search. `--preset`
takes another method's than SimCLR's.
`time` says how long a step of the variant takes beside one of the base, in turns, and so how many steps of each fit
into some minutes. `run` trains on 45,000 of the 50,000 training images for a fixed number of steps, so that the result
does not depend on what else the machine does, judges frozen features by a linear head and a kNN-20 vote on the other
5,000, and appends a line to FILE. The test split is never opened.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrastive_cli.core.config import nested, read_assignments
from contrastive_cli.embeddings.probes.knn_vote import knn_vote
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.embeddings.space import enter_space, measure_space
from contrastive_cli.engine.precision import autocast
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.inference.measured_spaces import MEASURED_IMAGES
from contrastive_cli.services.training.setup import TrainingSetup, set_up_training
from contrastive_cli.services.training.steps import train_steps
from contrastive_cli.views.augment import to_input

FIRST_PRESET = "cifar10-simclr-cpu"
BASE = {
    "dataset.view_size": "32",
    "encoder.embedding_dim": "512",
    "optim.name": "adamw",
    "optim.momentum": "0.9",
    "optim.lr": "2e-3",
}
OTHER_BATCH = {"cifar10-byol-cpu": {"train.batch_size": "64"}}
HELD_OUT = 5000
SPLIT_SEED = 123
CHUNK = 500
EXPONENT = 0.75  # of the whitened space, which `clr` chooses itself; fixed here, so that variants are compared in one
MINUTES = (3, 5, 15, 60)
WARM_UP_ROUNDS, ROUNDS = 3, 8


def make_setup(preset: str, data_dir: Path, sets: Sequence[str], *, seed: int) -> TrainingSetup:
    """The variant, on the images that are not held out."""
    given = {word.partition("=")[0] for word in sets}
    base = BASE | OTHER_BATCH.get(preset, {})
    changed = [*sets, *(f"{key}={value}" for key, value in base.items() if key not in given)]
    flags = {"dataset.data_dir": str(data_dir), "seed": seed}
    setup = set_up_training(resolve(config=preset, sets=read_assignments(changed), flags=nested(flags)).config)
    return replace(setup, subset=split(setup.num_samples)[0])


def split(num_images: int) -> tuple[Tensor, Tensor]:
    """Positions of the images that are trained on, and of those that judge."""
    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(SPLIT_SEED))
    return order[:-HELD_OUT], order[-HELD_OUT:]


def judge(setup: TrainingSetup) -> dict[str, float]:
    """Accuracy in percent on the held-out images."""
    images, method, size = setup.images, setup.method.eval(), setup.config.dataset.size
    assert size is not None, "the configuration was resolved"
    parts = []
    with torch.no_grad(), autocast(setup.device, setup.precision):
        for start in range(0, images.num_samples, CHUNK):
            pixels = torch.from_numpy(np.array(images.images[start : start + CHUNK]))
            parts.append(method.embed(to_input(pixels, size=size, mean=images.mean, std=images.std)).float())
    features, labels = torch.cat(parts), torch.from_numpy(images.labels)
    train, held = split(images.num_samples)
    probe = fit_probe(features[train], labels[train], seed=0)
    space = measure_space(features[train[:MEASURED_IMAGES]].numpy(), exponent=EXPONENT)
    whitened = torch.from_numpy(enter_space(features.numpy(), space))
    return {
        "linear": round(100 * probe.accuracy(features[held], labels[held]), 2),
        "knn20": _vote_accuracy(features, labels, train=train, held=held),
        "knn20_whitened": _vote_accuracy(whitened, labels, train=train, held=held),
    }


def _vote_accuracy(features: Tensor, labels: Tensor, *, train: Tensor, held: Tensor) -> float:
    votes = knn_vote(features[train], labels[train], queries=features[held], k=20)
    return round(100 * (votes == labels[held]).float().mean().item(), 2)


def run(preset: str, data_dir: Path, out: Path, *, name: str, steps: int, seed: int, sets: Sequence[str]) -> None:
    """Train and judge one variant."""
    setup = make_setup(preset, data_dir, sets, seed=seed)
    started = time.process_time()
    for record in train_steps(setup, first_step=0, total_steps=steps):
        if record.step % 500 == 0:
            print(f"{name}: step {record.step} of {steps}, loss {record.loss.item():.4f}", flush=True)
    seconds = time.process_time() - started
    line = {"preset": preset, "name": name, "sets": list(sets), "steps": steps, "seed": seed}
    line["cpu_seconds"] = round(seconds, 1)
    with out.open("a") as file:
        file.write(json.dumps(line | judge(setup)) + "\n")


def time_step(preset: str, data_dir: Path, sets: Sequence[str]) -> None:
    """Print the median time of a step of the base and of the variant, in turns."""
    setups = {
        "base": make_setup(preset, data_dir, [], seed=0),
        "variant": make_setup(preset, data_dir, sets, seed=0),
    }
    steps = {name: train_steps(setup, first_step=0, total_steps=10**6) for name, setup in setups.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(WARM_UP_ROUNDS + ROUNDS):
        for name, iterator in steps.items():
            started = time.perf_counter()
            next(iterator)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times[WARM_UP_ROUNDS:]) for name, times in seconds.items()}
    for name, setup in setups.items():
        views = setup.config.batch_size * setup.method.num_views
        fitting = ", ".join(f"{60 * minutes / medians[name]:.0f} steps in {minutes} min" for minutes in MINUTES)
        print(f"{name:8s} {1000 * medians[name]:.1f} ms, {views / medians[name]:.0f} views/s; {fitting}")
    print(f"variant / base: {medians['variant'] / medians['base']:.3f}")


def table(out: Path) -> None:
    """Print the Markdown table of all runs of FILE, in their order."""
    print("| preset | variant | steps | seed | linear | kNN-20 | whitened |\n|---|---|---|---|---|---|---|")
    for line in map(json.loads, out.read_text().splitlines()):
        preset = line.get("preset", FIRST_PRESET)
        sets = ", ".join(f"`{word}`" for word in line["sets"]) or "base"
        whitened = f"{line['knn20_whitened']:.1f} %" if "knn20_whitened" in line else ""
        scores = f"{line['linear']:.1f} % | {line['knn20']:.1f} % | {whitened}"
        print(f"| {preset} | {sets} | {line['steps']:,} | {line['seed']} | {scores} |")


def main() -> None:
    """Time, run or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["time", "run", "table"])
    parser.add_argument("sets", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--preset", default=FIRST_PRESET)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--name", default="variant")
    parser.add_argument("--steps", type=int, default=825)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_intermixed_args()
    if arguments.action == "time":
        time_step(arguments.preset, arguments.data_dir, arguments.sets)
    elif arguments.action == "run":
        options = {"name": arguments.name, "steps": arguments.steps, "seed": arguments.seed}
        run(arguments.preset, arguments.data_dir, arguments.out, sets=arguments.sets, **options)
    else:
        table(arguments.out)


if __name__ == "__main__":
    main()

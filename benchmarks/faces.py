"""Faces of people that were not in training: SupCon by clr beside pytorch-metric-learning's loss in the same loop.

    python -m benchmarks.faces --data-dir DIR [--steps 1050 --seeds 0 1 2]

DIR holds LFW, one folder a person. All rows have the preset lfw-supcon: the same net and first weights, views, batches
of people, optimizer and number of steps; only the loss differs. SimCLR has the same without labels and with shuffled
batches. Judged by ROC AUC of the cosine on 3,000 pairs of the test split's people, at h, at z,
and at z averaged over crops and mirror images.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.core.types import LossOutput
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.data.pairs import draw_pairs
from contrastive_cli.embeddings.similarity import paired_cosines
from contrastive_cli.embeddings.verification import verify
from contrastive_cli.engine.precision import autocast
from contrastive_cli.models.encoder import projector_of
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.inference.comparison import averaged_pictures
from contrastive_cli.services.training.setup import TrainingSetup, set_up_training
from contrastive_cli.services.training.steps import train_steps
from contrastive_cli.views.augment import to_input

PAIRS = 3000
ROWS = ("clr supcon", "pml supcon", "simclr", "random", "pixels")


def make_setup(row: str, *, data_dir: Path, seed: int) -> TrainingSetup:
    """The preset with the row's loss; equal seeds give equal first weights."""
    sets: dict[str, Any] = {"method": {"name": "simclr"}, "train": {"images_per_class": None}}
    flags = {"dataset": {"data_dir": str(data_dir)}, "seed": seed}
    setup = set_up_training(resolve(config="lfw-supcon", sets=sets if row == "simclr" else {}, flags=flags).config)
    if row == "pml supcon":
        from pytorch_metric_learning.losses import SupConLoss

        loss_of = SupConLoss(temperature=setup.config.method.temperature)  # type: ignore[attr-defined]

        def contrast(projections: Tensor, labels: Tensor) -> LossOutput:
            return LossOutput(loss=loss_of(projections.flatten(0, 1).float(), labels.repeat(len(projections))))

        setup.method.contrast = contrast  # type: ignore[attr-defined]
    return setup


def embed(setup: TrainingSetup, images: ImageSet) -> dict[str, NDArray[np.float32]]:
    """H and z of all images, in evaluation mode, and z averaged as `clr similarity --average crops` does."""
    method, size = setup.method.eval(), setup.config.dataset.size
    projector = projector_of(method)
    assert size is not None, "the configuration was resolved"
    assert projector is not None, "SupCon has a projector"
    layers: dict[str, list[Tensor]] = {"h": [], "z": [], "z-crops": []}
    with torch.no_grad(), autocast(setup.device, setup.precision):
        for start in range(0, images.num_samples, 500):
            directions = []
            for picture in averaged_pictures(np.array(images.images[start : start + 500]), "crops"):
                chunk = torch.from_numpy(picture.copy()).to(setup.device)
                prepared = to_input(chunk, size=size, mean=setup.images.mean, std=setup.images.std)
                h = method.embed(prepared)
                directions.append(F.normalize(projector(h).float(), dim=1))
                if len(directions) == 1:  # the whole image
                    layers["h"].append(h.float().cpu())
            layers["z"].append(directions[0].cpu())
            layers["z-crops"].append(torch.stack(directions).mean(dim=0).cpu())
    return {layer: torch.cat(parts).numpy() for layer, parts in layers.items()}


def measure(row: str, *, data_dir: Path, steps: int, seed: int) -> dict[str, Any]:
    """Train and judge one row."""
    setup = make_setup(row, data_dir=data_dir, seed=seed)
    dataset = setup.config.dataset
    images = open_dataset("lfw", split="test", data_dir=data_dir, size=dataset.stored_size or dataset.size or 64)
    positions, same = draw_pairs(images.labels, count=PAIRS, seed=0)
    result: dict[str, Any] = {"row": row, "seed": seed, "seconds": 0.0}
    if row == "pixels":
        vectors = {"h": np.asarray(images.images).reshape(images.num_samples, -1) / np.float32(255)}
    else:
        started = time.monotonic()
        if row != "random":
            for _ in train_steps(setup, first_step=0, total_steps=steps):
                pass
        result["seconds"] = round(time.monotonic() - started, 1)
        vectors = embed(setup, images)  # type: ignore[assignment]
    return result | {layer: verify(paired_cosines(table, positions), same)[0].auc for layer, table in vectors.items()}


def main() -> None:
    """Run all rows and print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1050, help="50 epochs of 2,721 images are 1,050")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"LFW, AUC of {PAIRS} pairs of unseen people, {arguments.steps} steps; {machine}")
    print(f"{'row':12s} {'seed':>4s} {'h':>7s} {'z':>7s} {'z-crops':>7s} {'seconds':>8s}")
    results = []
    for seed in arguments.seeds:
        for row in arguments.rows:
            found = measure(row, data_dir=arguments.data_dir, steps=arguments.steps, seed=seed)
            results.append(found)
            areas = " ".join(f"{found.get(layer, math.nan):7.4f}" for layer in ("h", "z", "z-crops"))
            print(f"{row:12s} {seed:4d} {areas} {found['seconds']:8.1f}", flush=True)
    print(json.dumps({"machine": machine, "steps": arguments.steps, "results": results}))


if __name__ == "__main__":
    main()

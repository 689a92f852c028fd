"""Variants of `clr finetune`, judged on training images whose labels they do not see.

    python -m benchmarks.finetuning RUN --fraction 0.1 --seeds 2 --data-dir DIR optim.lr=0.2 train.epochs=40

RUN is a run directory. What is given is changed in the finetuning that `clr finetune` would do, and the result
is judged on 10,000 training images outside the labeled ones, beside the linear head on the frozen features. The
encoder has seen those images without labels; the test split is opened, but never predicted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.config import nested, read_assignments
from contrastive_cli.core.runs import Run, find_run
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.services.inference.classes import predict_classes
from contrastive_cli.services.inference.model import embed_pixels, load_model
from contrastive_cli.services.training.finetuning import finetune_session
from contrastive_cli.services.training.steps import train_steps
from contrastive_cli.views.preprocessing import Preprocessing

HELD_OUT = 10_000
SPLIT_SEED = 123


def held_out(num_images: int, labeled: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending positions of the images that judge, none of them in `labeled`."""
    rest = np.setdiff1d(np.arange(num_images), labeled)
    return np.sort(np.random.default_rng(SPLIT_SEED).permutation(rest)[:HELD_OUT])


def judge(run: Run, data_dir: Path | None, sets: Sequence[str], *, fraction: float, seed: int) -> tuple[float, float]:
    """Accuracies in [0, 1] of the linear head on frozen features and of the finetuned classifier."""
    given = {"train.label_fraction": fraction, "seed": seed, "dataset.data_dir": data_dir and str(data_dir)}
    flags = nested({key: value for key, value in given.items() if value is not None})
    changes = read_assignments(list(sets))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "finetuned"
        session = finetune_session(run, config=None, sets=changes, flags=flags, out=out, overwrite=False)
    setup = session.setup
    if setup.subset is None:
        raise SystemExit("no image is left to judge by: --fraction must be less than 1")
    images, labeled = setup.images, setup.subset.numpy()
    held = held_out(images.num_samples, labeled)
    model = load_model(run, device="cpu")
    features, judged = (torch.from_numpy(embed_pixels(model, images.images[part])) for part in (labeled, held))
    probe = fit_probe(features, torch.from_numpy(images.labels[labeled]), seed=seed)
    for record in train_steps(setup, first_step=0, total_steps=session.total_steps):
        if record.step % 200 == 0:
            print(f"step {record.step} of {session.total_steps}, loss {record.loss.item():.3f}", file=sys.stderr)
    predicted = predict_classes(
        setup.method,
        images.images[held],
        preprocessing=Preprocessing(size=model.manifest.size, mean=images.mean, std=images.std),
        device=setup.device,
        precision=setup.precision,
    )
    frozen = probe.accuracy(judged, torch.from_numpy(images.labels[held]))
    return frozen, float((predicted == images.labels[held]).mean())


def main() -> None:
    """Print one row a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("sets", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_intermixed_args()
    run = find_run(str(arguments.run))
    print("| labels | seed | changed | linear head | finetuned | seconds |\n|---|---|---|---|---|---|")
    for seed in range(arguments.seeds):
        started = time.perf_counter()
        frozen, tuned = judge(run, arguments.data_dir, arguments.sets, fraction=arguments.fraction, seed=seed)
        changed = ", ".join(f"`{word}`" for word in arguments.sets) or "nothing"
        scores = f"{100 * frozen:.1f} % | {100 * tuned:.1f} %"
        seconds = time.perf_counter() - started
        print(f"| {100 * arguments.fraction:g} % | {seed} | {changed} | {scores} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()

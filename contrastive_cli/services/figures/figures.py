"""Pictures of a run: its embeddings, the views it sees, its neighbors, its curves. `clr plot` reaches this module."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.runs import Run
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.configuration import read_run_config
from contrastive_cli.services.display import for_display
from contrastive_cli.services.metrics import read_metrics
from contrastive_cli.services.opening import open_images
from contrastive_cli.views.augment import make_views
from contrastive_cli.viz.compared_curves import compared_curves
from contrastive_cli.viz.curves import accuracy_over_labels, curves
from contrastive_cli.viz.grids import views_grid


def plot_curves(run: Run, *, out: Path | None) -> Path:
    """Loss between its reference lines, learning rate, online kNN, spread and rank, over the training."""
    target = out or run.path / "plots" / "curves.png"
    records = read_metrics(run)
    if not records:
        raise DataError(f"{run.path} has no metrics yet", path=run.path)
    manifest = run.manifest()
    caption = f"{manifest.method}, {manifest.encoder}, {manifest.total_steps} steps, seed {manifest.seed}"
    curves(records, path=target, title=run.name, caption=caption)
    register_artifact(run, target, kind="plot")
    return target


def plot_compared_curves(runs: Sequence[Run], *, out: Path) -> Path:
    """Loss, online kNN, spread and rank of several runs in one figure.

    Raises:
        DataError: If one has no metrics.
    """
    records = {run.name: read_metrics(run) for run in runs}
    for run in runs:
        if not records[run.name]:
            raise DataError(f"{run.path} has no metrics yet", path=run.path)
    compared_curves(records, path=out, title=f"{len(runs)} runs", caption="dotted: loss of chance, and aligned")
    return out


def plot_labels(run: Run, *, out: Path | None, name: str | None = None) -> list[Path]:
    """Accuracy over the part of the labels, from what `clr linear-eval` wrote: a figure a dataset.

    Raises:
        DataError: If nothing was evaluated yet, or `out` is one file for several datasets.
    """
    files = sorted((run.path / "eval").glob(f"linear-{name or '*'}.json"))
    if not files:
        raise DataError(
            f"{run.path} has no evaluation to draw",
            hint=f"run `clr linear-eval --run {run.path} --label-fraction 0.01,0.1,1`",
            path=run.path,
        )
    if out is not None and len(files) > 1:
        names = ", ".join(file.stem.removeprefix("linear-") for file in files)
        raise DataError(f"{run.path} was evaluated on {names}, which do not go into one file", hint="leave out --out")
    targets = []
    for file in files:
        found = _read_evaluation(file)
        target = out or run.path / "plots" / f"{file.stem.replace('linear-', 'labels-', 1)}.png"
        caption = f"{run.name}; {found['test_images']} test images, 95 % intervals"
        title = f"accuracy over labels, {found['dataset']}"
        accuracy_over_labels(found["rows"], path=target, title=title, caption=caption)
        register_artifact(run, target, kind="plot")
        targets.append(target)
    return targets


def _read_evaluation(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        rows = []
        for row in found["rows"]:
            low, high = map(float, row["ci95"])
            share = float(row.get("label_share", row["label_fraction"]))
            numbers = {"label_share": share, "accuracy": float(row["accuracy"])}
            if not np.isfinite([low, high, *numbers.values()]).all():
                raise ValueError("a number is not finite")
            rows.append({"features": str(row["features"]), "head": str(row["head"]), **numbers, "ci95": (low, high)})
        return {"dataset": str(found["dataset"]), "test_images": int(found["test_images"]), "rows": rows}
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        raise DataError(f"{file} is not a result of `clr linear-eval`", hint="run it again", path=file) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledViews:
    """Training images uint8 [B, C, H, W] and the views that the first epoch made of them, [V, B, C, h, w] in [0, 1].

    Both with the channels that a figure shows.
    """

    images: ImageSet
    originals: NDArray[np.uint8]
    views: NDArray[np.float32]


def plot_views(run: Run, *, out: Path | None, count: int, data_dir: Path | None) -> Path:
    """Some training images and the very views that the first epoch made of them."""
    target = out or run.path / "plots" / "views.png"
    sampled = sample_views(run, count=count, data_dir=data_dir)
    title = f"views of {sampled.images.name}"
    caption = f"{run.name}, seed {run.manifest().seed}"
    views_grid(sampled.originals, sampled.views, path=target, title=title, caption=caption)
    register_artifact(run, target, kind="plot")
    return target


def sample_views(run: Run, *, count: int, data_dir: Path | None) -> SampledViews:
    """Draw training images by the run's seed, and make their views.

    Raises:
        DataError: If the images are absent or unusable.
    """
    manifest = run.manifest()
    config = read_run_config(run)
    dataset = config.dataset.model_copy(update={"download": False, "data_dir": data_dir or config.dataset.data_dir})
    split = find_dataset(dataset.name).pretrain_split
    images = open_images(dataset, split=split, size=manifest.decoded_size, known=manifest)
    indices = torch.from_numpy(np.random.default_rng(config.seed).permutation(images.num_samples)[:count].copy())
    pixels = np.asarray(images.images[indices.numpy()])
    num_views = 4
    views = make_views(
        torch.from_numpy(pixels).expand(num_views, *pixels.shape),
        recipes=[config.views] * num_views,
        indices=indices,
        size=config.dataset.view_size or manifest.size,
        mean=[0.0] * images.channels,
        std=[1.0] * images.channels,
        seed=config.seed,
        epoch=0,
    )
    return SampledViews(
        images=images,
        originals=for_display(pixels, config.dataset),
        views=for_display(views.numpy(), config.dataset),
    )

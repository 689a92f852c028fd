"""Pictures of a run: its embeddings, the views it sees, its neighbours, its curves. `clr plot` reaches this module."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.files import harmless_cell, write_atomically
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.datasets import find_dataset, open_dataset
from contrastive_cli.data.images import decode
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.embeddings.files import Embeddings, NeighborsFile, read_embeddings, read_neighbors
from contrastive_cli.embeddings.knn import nearest_neighbors
from contrastive_cli.services.configuration import read_run_config
from contrastive_cli.services.embedding import embed_images, load_model, open_split
from contrastive_cli.services.neighbors import neighbors_of, without_self
from contrastive_cli.services.records import enter_file
from contrastive_cli.services.reporting import read_metrics
from contrastive_cli.views.augment import make_views
from contrastive_cli.viz.curves import accuracy_over_labels, curves
from contrastive_cli.viz.grids import neighbors_grid, views_grid
from contrastive_cli.viz.projection import ProjectionKind, neighbors_needed, project, select_classes, subsample
from contrastive_cli.viz.scatter import scatter

SHOWN_NEIGHBORS = 8
THUMBNAIL = 96  # pixels of the side of an image file that is drawn


def plot_curves(run: Run, *, out: Path | None) -> Path:
    """Loss between its reference lines, learning rate, online kNN, spread and rank, over the training."""
    target = out or run.path / "plots" / "curves.png"
    records = read_metrics(run)
    if not records:
        raise DataError(f"{run.path} has no metrics yet", path=run.path)
    manifest = run.manifest()
    caption = f"{manifest.method}, {manifest.encoder}, {manifest.total_steps} steps, seed {manifest.seed}"
    curves(records, path=target, title=run.name, caption=caption)
    enter_file(run, target, kind="plot")
    return target


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
        enter_file(run, target, kind="plot")
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


def plot_views(run: Run, *, out: Path | None, count: int, data_dir: Path | None) -> Path:
    """Some training images and the very views that the first epoch made of them."""
    target = out or run.path / "plots" / "views.png"
    manifest = run.manifest()
    config = read_run_config(run)
    images = open_dataset(
        config.dataset.name,
        split=find_dataset(config.dataset.name).pretrain_split,
        data_dir=data_dir or config.dataset.data_dir,
        size=manifest.decoded_size,
        max_bad=config.dataset.max_bad,
    )
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
    title = f"views of {config.dataset.name}"
    views_grid(pixels, views.numpy(), path=target, title=title, caption=f"{run.name}, seed {config.seed}")
    enter_file(run, target, kind="plot")
    return target


def plot_neighbors(run: Run | None, *, file: Path | None, out: Path | None, count: int, data_dir: Path | None) -> Path:
    """Some images beside their mined neighbours: those of a file, or those that a run was trained with.

    A file of embedded image files, without a run, is drawn from these files.

    Raises:
        UsageError: If there is neither.
        DataError: If the file does not say of which dataset it is, or is not of the images found.
    """
    known = None if run is None else run.manifest().neighbors
    if file is None and known is None:
        raise UsageError("no neighbours to draw", hint="give a file of `clr knn`, or a --run that was trained with one")
    path = file or Path(known.path if known else "")
    mined = read_neighbors(path)
    if run is None and not mined.dataset and not mined.queries and mined.paths is not None:
        return _plot_neighboring_files(mined, mined.paths, path, out=out, count=count)
    own = None if run is None else read_run_config(run).dataset
    name = str(mined.dataset.get("name") or (own.name if own else ""))
    if not name:
        raise DataError(f"{path} does not say of which dataset it is", hint="give a --run on its images", path=path)
    size = None if own is None or own.name != name else own.stored_size or own.size
    try:
        images = open_dataset(
            name,
            split=str(mined.dataset.get("split") or find_dataset(name).pretrain_split),
            data_dir=data_dir or (own.data_dir if own is not None and own.name == name else None),
            size=size or find_dataset(name).size,
        )
    except UsageError as error:  # it is the file that asks for what there is not
        raise DataError(f"{path}: {error.message}", hint=error.hint, path=path) from None
    neighbors = neighbors_of(images, mined, path=path)
    chosen = draw_positions(images.num_samples, limit=count, seed=0)
    shown = neighbors.indices.numpy()[chosen, :SHOWN_NEIGHBORS]
    pixels = np.asarray(images.images[np.unique(shown)])[np.searchsorted(np.unique(shown), shown)]
    target = out or (run.path / "plots" / "neighbors.png" if run is not None else path.with_suffix(".png"))
    facts = neighbors.facts
    share = ""
    if facts.purity is not None:
        share = f", {100 * facts.purity:.1f} % of {facts.per_image} neighbours of its class"
    neighbors_grid(
        np.asarray(images.images[chosen]),
        pixels,
        path=target,
        title=f"neighbours in {name} {images.split}",
        caption=f"{path.name}, {facts.metric}{share}",
        query_labels=images.labels[chosen] if images.has_labels else None,
        neighbor_labels=images.labels[shown] if images.has_labels else None,
        classes=images.classes,
    )
    if run is not None:
        enter_file(run, target, kind="plot")
    return target


def _plot_neighboring_files(
    mined: NeighborsFile, names: Sequence[str], path: Path, *, out: Path | None, count: int
) -> Path:
    indices = without_self(mined.indices)
    if 0 in indices.shape or indices.min() < 0 or indices.max() >= len(names):
        raise DataError(f"{path} names no neighbours of its {len(names)} images", path=path)
    chosen = draw_positions(len(indices), limit=count, seed=0)
    shown = indices[chosen, :SHOWN_NEIGHBORS]
    wanted = np.union1d(chosen, shown)
    pixels = np.stack([decode(Path(names[index]), size=THUMBNAIL, channels=3) for index in wanted])
    target = out or path.with_suffix(".png")
    neighbors_grid(
        pixels[np.searchsorted(wanted, chosen)],
        pixels[np.searchsorted(wanted, shown)],
        path=target,
        title="neighbours",
        caption=f"{path.name}, {mined.metric}",
    )
    return target


def embeddings_to_plot(
    run: Run | None,
    *,
    file: Path | None,
    split: str,
    data_dir: Path | None,
    device: str,
    progress: CountProgress | None = None,
) -> Embeddings:
    """The embeddings of a file, or of a split of the run's dataset, made now."""
    if file is not None:
        return read_embeddings(file)
    assert run is not None, "without a file there is a run"
    model = load_model(run, device=device)
    images = open_split(model, split, dataset=model.dataset_at(data_dir), progress=progress)
    return embed_images(model, images, progress=progress)


def plot_embeddings(
    embeddings: Embeddings,
    *,
    run: Run | None,
    file: Path | None,
    out: Path | None,
    projections: Sequence[ProjectionKind],
    classes: int | None,
    limit: int,
    seed: int,
    progress: CountProgress | None = None,
) -> list[Path]:
    """Maps of at most `limit` embeddings, coloured by class, all from one graph of exact neighbours.

    The coordinates go beside each as CSV. `progress` counts the samples of the graph, then the steps of each layout.
    """
    chosen = _chosen(embeddings, classes=classes, limit=limit, seed=seed)
    vectors = embeddings.vectors[chosen]
    graph = None
    needed = max(neighbors_needed(len(vectors), kind=kind) for kind in projections) if len(vectors) > 3 else 0
    if needed:
        found = nearest_neighbors(vectors, k=needed, progress=progress)
        graph = (found.indices, found.distances)
    labels = None if embeddings.labels is None else embeddings.labels[chosen]
    source = file.name if file is not None else f"{embeddings.dataset.get('name')} {embeddings.dataset.get('split')}"
    targets = []
    for kind in projections:
        coordinates = project(vectors, kind=kind, seed=seed, neighbors=graph, progress=progress)
        target = out or _default_target(run, file, f"embeddings-{kind}.png")
        scatter(
            coordinates,
            labels=labels,
            classes=embeddings.classes,
            title=f"{source}, {kind}",
            caption=f"{len(vectors)} of {len(embeddings.vectors)} embeddings of "
            f"{embeddings.model.get('run', 'a file')}, cosine, seed {seed}",
            path=target,
        )
        coordinates_csv = _coordinates_csv(embeddings, chosen, coordinates)
        write_atomically(target.with_name(f"{target.stem}-coordinates.csv"), coordinates_csv)
        if run is not None:
            enter_file(run, target, kind="plot")
        targets.append(target)
    return targets


def _chosen(embeddings: Embeddings, *, classes: int | None, limit: int, seed: int) -> NDArray[np.int64]:
    chosen = np.arange(len(embeddings.vectors))
    if classes is not None:
        if embeddings.labels is None:
            raise DataError("the embeddings have no labels, so no classes can be chosen", hint="leave out --classes")
        chosen = select_classes(embeddings.labels, classes=embeddings.classes, num_classes=classes)
    return chosen[subsample(len(chosen), limit=limit, seed=seed)]


def _default_target(run: Run | None, file: Path | None, name: str) -> Path:
    if run is not None:
        return run.path / "plots" / name
    assert file is not None, "without a run there is a file"
    return file.with_name(f"{file.stem}-{name}")


def _coordinates_csv(embeddings: Embeddings, chosen: NDArray[np.int64], coordinates: NDArray[np.float32]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["index", "x", "y", "label", "path"])
    for index, (x, y) in zip(chosen, coordinates, strict=True):
        label = "" if embeddings.labels is None else int(embeddings.labels[index])
        path = "" if embeddings.paths is None else harmless_cell(embeddings.paths[index])
        writer.writerow([int(index), f"{x:.6g}", f"{y:.6g}", label, path])
    return buffer.getvalue().encode("utf-8", "backslashreplace")

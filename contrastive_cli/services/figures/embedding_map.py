"""Maps of embeddings. `clr plot embeddings` reaches this module."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.files import harmless_cell, write_atomically
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.files import Embeddings, read_embeddings
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.services.artifacts import enter_file
from contrastive_cli.services.inference.model import embed_images, load_model
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.viz.projection import ProjectionKind, neighbors_needed, project, select_classes, subsample
from contrastive_cli.viz.scatter import scatter


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
    """Maps of at most `limit` embeddings, colored by class, all from one graph of exact neighbors.

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

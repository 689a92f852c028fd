"""Maps of embeddings: computed as a value, then written. `clr plot embeddings` reaches this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import ProjectionKind, SpaceKind
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.embeddings.files import Embeddings, read_embeddings
from contrastive_cli.embeddings.placing import in_space, kind_of
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.figures.metadata import read_metadata
from contrastive_cli.services.figures.pictures import find_pictures
from contrastive_cli.services.inference.model import embed_images, load_model
from contrastive_cli.services.inference.spaces import placed, placement_of
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.viz.embedding_map import Column, EmbeddingMap
from contrastive_cli.viz.map_files import map_format
from contrastive_cli.viz.projection import neighbors_needed, project, select_classes, subsample

NEIGHBORS_SHOWN = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Mapped:
    """Embeddings to map, and where they come from: a file, or the images of a split that they were just made of."""

    embeddings: Embeddings
    file: Path | None = None
    images: ImageSet | None = None

    @property
    def source(self) -> str:
        """The name of the file, or of the dataset and its split."""
        dataset = self.embeddings.dataset
        return self.file.name if self.file is not None else f"{dataset.get('name')} {dataset.get('split')}"


def embeddings_to_plot(
    run: Run | None,
    *,
    files: Sequence[Path],
    split: str,
    data_dir: Path | None,
    device: str,
    kind: SpaceKind | None = None,
    crops: int = 1,
    progress: CountProgress | None = None,
) -> list[Mapped]:
    """The embeddings of the files, or of a split of the run's dataset, made now, in the space of `kind`.

    Without `kind` files stay in the space that they are in, and embeddings made now are in that which the run chose.

    Raises:
        DataError: If two files have no image in common.
    """
    if files:
        mapped = [Mapped(embeddings=_read(file, kind), file=file) for file in files]
        return mapped if len(mapped) == 1 else _same_images(*mapped)
    assert run is not None, "without a file there is a run"
    model = load_model(run, device=device)
    dataset = model.dataset_at(data_dir)
    where = placement_of(model, kind=kind, crops=crops, dataset=dataset)
    images = open_split(model, split, dataset=dataset, progress=progress)
    embeddings = embed_images(model, images, layer=where.layer, crops=crops, progress=progress)
    return [Mapped(embeddings=placed(embeddings, where), images=images)]


def _read(file: Path, kind: SpaceKind | None) -> Embeddings:
    embeddings = read_embeddings(file)
    return embeddings if kind is None else in_space(embeddings, kind, file=file)


def plot_embeddings(
    mapped: Sequence[Mapped],
    *,
    run: Run | None,
    out: Path | None,
    projections: Sequence[ProjectionKind],
    classes: int | None,
    limit: int | None,
    seed: int,
    data_dir: Path | None = None,
    metadata: Path | None = None,
    progress: CountProgress | None = None,
) -> tuple[list[Path], str]:
    """Write maps of at most `limit` embeddings: a figure of each projection, or one page or table of all.

    `progress` counts the samples of the graph of neighbors, then the steps of each layout, then the pictures.

    Returns:
        The files, and what is missing of them; may be empty.
    """
    file_format = map_format(out)
    first = mapped[0]
    chosen = _chosen(first.embeddings, classes=classes, limit=limit or file_format.limit, seed=seed)
    num_neighbors = NEIGHBORS_SHOWN if file_format.interactive else 0
    maps = [
        project_embeddings(
            one, chosen, projections=projections, num_neighbors=num_neighbors, seed=seed, progress=progress
        )
        for one in mapped
    ]
    if len(maps) > 1:
        maps[1] = replace(maps[1], coordinates=_turned_like(maps[1].coordinates, maps[0].coordinates))
    if file_format.interactive:
        maps[0] = _with_pictures(maps[0], mapped, run=run, data_dir=data_dir, metadata=metadata, progress=progress)
        assert out is not None, "without a file to write, figures are drawn"
        file_format.write(maps, out)
        return [_entered(run, out)], maps[0].note
    targets = []
    for kind, coordinates in maps[0].coordinates.items():
        target = out or _default_target(run, first.file, f"embeddings-{kind}.png")
        file_format.write([replace(maps[0], coordinates={kind: coordinates})], target)
        targets.append(_entered(run, target))
    return targets, ""


def project_embeddings(
    mapped: Mapped,
    chosen: NDArray[np.int64],
    *,
    projections: Sequence[ProjectionKind],
    num_neighbors: int = 0,
    seed: int,
    progress: CountProgress | None = None,
) -> EmbeddingMap:
    """Lay some of the embeddings out, all projections from one graph of exact neighbors.

    Args:
        mapped: N embeddings.
        chosen: [M] rows of them.
        projections: The kinds of layout.
        num_neighbors: Neighbors of each image that the map keeps, for readers to look at.
        seed: Of the layouts.
        progress: Called with (done, total) of the graph, then of each layout.
    """
    embeddings = mapped.embeddings
    vectors = embeddings.vectors[chosen]
    count = len(vectors)
    num_neighbors = min(num_neighbors, count - 1)
    graph = None
    needed = max(neighbors_needed(count, kind=kind) for kind in projections) if count > 3 else 0
    if max(needed, num_neighbors) > 0:
        found = nearest_neighbors(vectors, k=max(needed, num_neighbors), progress=progress)
        graph = (found.indices, found.distances)
    coordinates = {
        kind: project(vectors, kind=kind, seed=seed, neighbors=graph if needed else None, progress=progress)
        for kind in projections
    }
    return EmbeddingMap(
        coordinates=coordinates,
        chosen=chosen,
        total=len(embeddings.vectors),
        labels=None if embeddings.labels is None else embeddings.labels[chosen],
        classes=embeddings.classes,
        paths=None if embeddings.paths is None else tuple(embeddings.paths[index] for index in chosen),
        neighbors=graph[0][:, :num_neighbors] if graph and num_neighbors > 0 else None,
        similarities=1 - graph[1][:, :num_neighbors] if graph and num_neighbors > 0 else None,
        uncertainty=None if embeddings.uncertainty is None else embeddings.uncertainty[chosen],
        source=mapped.source,
        caption=f"{count} of {len(embeddings.vectors)} embeddings of "
        f"{embeddings.model.get('run', 'a file')}, {_measure(embeddings)}, seed {seed}",
    )


def _measure(embeddings: Embeddings) -> str:
    return "cosine" if kind_of(embeddings) == "raw" else "cosine, whitened"


def _with_pictures(
    shown: EmbeddingMap,
    mapped: Sequence[Mapped],
    *,
    run: Run | None,
    data_dir: Path | None,
    metadata: Path | None,
    progress: CountProgress | None,
) -> EmbeddingMap:
    columns: Mapping[str, Column] = {}
    notes = []
    if metadata is not None:
        columns, note = read_metadata(metadata, paths=shown.paths)
        notes.append(note)
    thumbnails = None
    for one in mapped:
        if thumbnails is None:
            thumbnails, note = find_pictures(
                one.embeddings, shown.chosen, images=one.images, file=one.file, run=run, data_dir=data_dir,
                progress=progress,
            )  # fmt: skip
    notes.append(note)
    return replace(shown, thumbnails=thumbnails, columns=columns, note="; ".join(filter(None, notes)))


def _same_images(first: Mapped, second: Mapped) -> list[Mapped]:
    """Both reduced to the images that they share, in the order of the first."""
    a, b = first.embeddings, second.embeddings
    if a.paths is not None and b.paths is not None:
        place = {path: row for row, path in reversed(list(enumerate(b.paths)))}
        rows = np.array([row for row, path in enumerate(a.paths) if path in place], np.int64)
        others = np.array([place[a.paths[row]] for row in rows], np.int64)
    else:
        by_position = a.indices is None or b.indices is None or np.array_equal(a.indices, b.indices)
        rows = others = np.arange(len(a.vectors) if by_position and len(a.vectors) == len(b.vectors) else 0)
    if not len(rows):
        raise DataError(
            f"{first.file} and {second.file} have no images in common, so they cannot stand side by side",
            hint="embed the same images with both encoders",
        )
    a, b = _rows(a, rows), _rows(b, others)
    if a.labels is None:
        a = replace(a, labels=b.labels, classes=b.classes)
    return [replace(first, embeddings=a), replace(second, embeddings=replace(b, labels=a.labels, classes=a.classes))]


def _rows(embeddings: Embeddings, rows: NDArray[np.int64]) -> Embeddings:
    return replace(
        embeddings,
        vectors=embeddings.vectors[rows],
        labels=None if embeddings.labels is None else embeddings.labels[rows],
        paths=None if embeddings.paths is None else tuple(embeddings.paths[row] for row in rows),
        indices=None if embeddings.indices is None else embeddings.indices[rows],
        uncertainty=None if embeddings.uncertainty is None else embeddings.uncertainty[rows],
    )


def _turned_like(
    layouts: Mapping[ProjectionKind, NDArray[np.float32]], models: Mapping[ProjectionKind, NDArray[np.float32]]
) -> dict[ProjectionKind, NDArray[np.float32]]:
    """Layouts mean the same turned and mirrored; so turned that each image lies as near as can be to where it was."""
    turned: dict[ProjectionKind, NDArray[np.float32]] = {}
    for kind, points in layouts.items():
        centered, model = points - points.mean(axis=0), models[kind] - models[kind].mean(axis=0)
        left, _, right = np.linalg.svd(centered.T @ model)  # orthogonal Procrustes, 2 x 2
        turned[kind] = np.asarray(centered @ (left @ right), np.float32)
    return turned


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


def _entered(run: Run | None, target: Path) -> Path:
    if run is not None:
        register_artifact(run, target, kind="plot")
        register_artifact(run, target.with_name(f"{target.stem}-coordinates.csv"), kind="plot")  # where there are any
    return target

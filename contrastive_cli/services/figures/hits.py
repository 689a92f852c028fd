"""Hits of a search and similarities of images as pictures: a page or a figure, by the suffix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.notes import note
from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors
from contrastive_cli.services.figures.pictures import find_pictures, pictures_of_files
from contrastive_cli.services.inference.thresholds import Threshold
from contrastive_cli.viz.embedding_map import Thumbnails
from contrastive_cli.viz.gallery import Card, Gallery, HeatMap, Row, Section, write_gallery
from contrastive_cli.viz.grids import neighbors_grid
from contrastive_cli.viz.heat_map import color_range, similarity_heat_map

PAGE: Final = ".html"


def write_hits(
    path: Path,
    queries: Sequence[Path],
    embeddings: Embeddings,
    found: Neighbors,
    *,
    metric: Metric,
    file: Path,
    run: Run,
) -> None:
    """Show each query with its nearest, the nearest first, as a page (.html) or as a figure.

    Raises:
        DataError: If no picture of a hit is at hand.
        RunError: If the file cannot be written.
    """
    rows, place = np.unique(found.indices, return_inverse=True)
    hits, missing = find_pictures(embeddings, rows, images=None, file=file, run=run, data_dir=None)
    if hits is None:
        raise DataError(f"no picture of a hit can be shown: {missing}", hint="write a table, .csv or .jsonl")
    if missing:
        note(missing)
    place = place.reshape(found.indices.shape)
    asked = _in_color(pictures_of_files(queries))
    hits = _in_color(hits)
    title = f"nearest to {len(queries)} images" if len(queries) > 1 else f"nearest to {queries[0].name}"
    how = "cosine similarity" if metric == "cosine" else "euclidean distance"
    caption = f"{how}, {len(embeddings.vectors):,} embeddings of {file.name}, {run.name}"
    if path.suffix.lower() != PAGE:
        size = max(asked.size, hits.size)
        tiles = _resized(hits.pixels, size)[place]  # [Q, K, C, S, S]
        labels = None if embeddings.labels is None else embeddings.labels[found.indices]
        neighbors_grid(
            _resized(asked.pixels, size), tiles, path=path, title=title, caption=caption, neighbor_labels=labels,
            classes=embeddings.classes,
        )  # fmt: skip
        return
    size = max(asked.size, hits.size)
    both = Thumbnails(
        pixels=np.concatenate([_resized(asked.pixels, size), _resized(hits.pixels, size)]),
        present=np.concatenate([asked.present, hits.present]),
    )
    sections = tuple(
        _hits_of(number, query, embeddings, found, metric=metric, tiles=place[number] + len(queries))
        for number, query in enumerate(queries)
    )
    write_gallery(Gallery(title=title, lines=(caption,), sections=sections, thumbnails=both), path)


def _hits_of(
    number: int, query: Path, embeddings: Embeddings, found: Neighbors, *, metric: Metric, tiles: NDArray[np.int64]
) -> Section:
    cards = [Card(tile=number, name=str(query), lines=("query",), mark="query")]
    for rank, (index, distance) in enumerate(
        zip(found.indices[number].tolist(), found.distances[number].tolist(), strict=True), 1
    ):
        name = str(index) if embeddings.paths is None else embeddings.paths[index]
        label = -1 if embeddings.labels is None else int(embeddings.labels[index])
        known = embeddings.classes[label] if 0 <= label < len(embeddings.classes) else ""
        value = f"{1 - distance:.4f}" if metric == "cosine" else f"{distance:.4g}"
        cards.append(Card(tile=int(tiles[rank - 1]), name=name, lines=tuple(filter(None, (f"{rank}. {value}", known)))))
    return Section(
        kind=f"query-{number + 1}",
        title=query.name,
        count=f"{len(cards) - 1} nearest",
        text="The query first, then the nearest, the nearest first.",
        is_fault=False,
        in_groups=True,
        rows=(Row(number=1, heading="", cards=tuple(cards)),),
    )


def write_similarity_map(
    path: Path,
    paths: Sequence[str],
    cosines: NDArray[np.float64],
    *,
    how: str,
    run: str,
    threshold: Threshold | None,
) -> None:
    """Draw the cosines [N, N] of images with their pictures, as a page (.html) or as a figure.

    Raises:
        RunError: If the file cannot be written.
    """
    pictures = _in_color(pictures_of_files([Path(name) for name in paths]))
    title, caption = f"similarity of {len(paths)} images", f"cosine, {how}, {run}"
    if threshold is not None:
        caption += f"; the same at {threshold}"
    limit = None if threshold is None else threshold.cosine
    if path.suffix.lower() != PAGE:
        similarity_heat_map(
            cosines, paths, thumbnails=pictures, path=path, title=title, caption=caption, threshold=limit
        )
        return
    low, high = color_range(cosines)
    heat_map = HeatMap(
        cards=tuple(Card(tile=number, name=name) for number, name in enumerate(paths)),
        values=cosines,
        low=low,
        high=high,
        threshold=limit,
    )
    write_gallery(Gallery(title=title, lines=(caption,), thumbnails=pictures, heat_map=heat_map), path)


def _in_color(thumbnails: Thumbnails) -> Thumbnails:
    """With three channels."""
    if thumbnails.pixels.shape[1] == 3:
        return thumbnails
    return Thumbnails(pixels=np.repeat(thumbnails.pixels[:, :1], 3, axis=1), present=thumbnails.present)


def _resized(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    from contrastive_cli.data.squares import resize_array

    return np.stack([resize_array(image, size=size) for image in pixels])

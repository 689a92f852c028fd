"""The files that a map of embeddings is written to, by suffix: figures, pages, tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contrastive_cli.core.choices import ProjectionKind
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import harmless_cell, write_atomically
from contrastive_cli.viz.canvas import FIGURE_SUFFIXES
from contrastive_cli.viz.embedding_map import EmbeddingMap
from contrastive_cli.viz.map_table import write_map_table
from contrastive_cli.viz.page import write_page
from contrastive_cli.viz.scatter import scatter


@dataclass(frozen=True, kw_only=True, slots=True)
class MapFormat:
    """A kind of file.

    Attributes:
        write: Writes the maps to a path.
        max_maps: Maps that go into one file.
        interactive: Whether neighbors and pictures are looked up for it, and it holds every projection.
        limit: Most points, unless another number is asked for.
    """

    write: Callable[[Sequence[EmbeddingMap], Path], None]
    max_maps: int = 1
    interactive: bool = True
    limit: int = 20_000


def write_scatter(maps: Sequence[EmbeddingMap], path: Path) -> None:
    """Draw the one projection of the one map, and put its coordinates beside as CSV. Raises as `scatter`."""
    (shown,) = maps
    ((kind, coordinates),) = shown.coordinates.items()
    scatter(
        coordinates,
        labels=shown.labels,
        classes=shown.classes,
        title=f"{shown.source}, {kind}",
        caption=shown.caption,
        path=path,
    )
    write_coordinates(shown, kind, path.with_name(f"{path.stem}-coordinates.csv"))


def write_coordinates(shown: EmbeddingMap, kind: ProjectionKind, path: Path) -> None:
    """Write index, x, y, label and path of each image as CSV.

    Raises:
        RunError: If the file cannot be written.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["index", "x", "y", "label", "path"])
    for row, (index, (x, y)) in enumerate(zip(shown.chosen, shown.coordinates[kind], strict=True)):
        label = "" if shown.labels is None else int(shown.labels[row])
        path_cell = "" if shown.paths is None else harmless_cell(shown.paths[row])
        writer.writerow([int(index), f"{x:.6g}", f"{y:.6g}", label, path_cell])
    write_atomically(path, buffer.getvalue().encode("utf-8", "backslashreplace"))


FIGURE: Final = MapFormat(write=write_scatter, interactive=False, limit=3000)
MAP_FORMATS: Final = {
    **dict.fromkeys(FIGURE_SUFFIXES, FIGURE),
    ".html": MapFormat(write=write_page, max_maps=2),
    ".parquet": MapFormat(write=write_map_table),
}


def map_format(path: Path | None) -> MapFormat:
    """What the suffix of `path` stands for; a figure without a path.

    Raises:
        UsageError: If the suffix stands for nothing.
    """
    if path is None:
        return FIGURE
    found = MAP_FORMATS.get(path.suffix.lower())
    if found is None:
        known = list(MAP_FORMATS)
        raise UsageError(
            f"cannot write a map as {path.name!r}: maps are {', '.join(known[:-1])} or {known[-1]}", path=path
        )
    return found

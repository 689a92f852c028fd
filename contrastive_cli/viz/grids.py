"""Grids of images: views that a recipe makes, what a decoder draws, and the nearest neighbors of some queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.viz.canvas import HEADING_INCHES, class_name, drawing, heading, note_numbered
from contrastive_cli.viz.theme import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Bluish green and vermillion of Okabe and Ito, which color-blind readers can tell apart; the dashes help in gray.
_RIGHT: Final = ("#009e73", "solid")
_WRONG: Final = ("#d55e00", (0, (2.2, 1.4)))
_TILE_INCHES: Final = 1.05
_MAX_INCHES: Final = 40.0
_MIN_WIDTH: Final = 5.0


def views_grid(originals: NDArray[np.uint8], views: NDArray[Any], *, path: Path, title: str, caption: str = "") -> None:
    """Draw images above the views that were made of them, one column an image.

    Args:
        originals: [B, C, H, W] uint8.
        views: [V, B, C, h, w] floats in [0, 1], denormalized; values outside are clipped.
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.
        title: The heading.
        caption: What was done: recipe, seed.

    Raises:
        DataError: If there are no images, they do not fit, or have other than 1 or 3 channels.
        UsageError: If the suffix of `path` is unknown.
    """
    if views.ndim != 5 or originals.ndim != 4 or views.shape[1] != len(originals) or not views.size:
        raise DataError(f"views {list(views.shape)} do not belong to images {list(originals.shape)}")
    as_bytes = (np.nan_to_num(views).clip(0.0, 1.0) * 255.0).round().astype(np.uint8)
    left, gap = 0.75, 0.12  # in tiles: room for the names of the rows, and between the originals and their views
    columns, rows = len(originals), 1 + len(views)
    width, height = _size(columns + left, rows + gap)
    with drawing(path, width=width, height=height) as figure:
        heading(figure, title=title, caption=caption)
        axes = _tile_axes(figure, columns=columns + left, rows=rows + gap)
        for row, images in enumerate([originals, *as_bytes]):
            top = row + (gap if row else 0.0)
            name = "original" if row == 0 else f"view {row}"
            axes.text(left - 0.12, top + 0.5, name, ha="right", va="center", color=theme().faint, fontsize=9)
            for column, image in enumerate(images):
                _tile(axes, image, x=left + column, y=top)


def reconstructions_grid(
    inputs: NDArray[np.uint8],
    outputs: NDArray[Any],
    errors: Sequence[float],
    others: Mapping[str, NDArray[Any]],
    *,
    path: Path,
    title: str,
    caption: str = "",
) -> None:
    """Draw images above what was made of them, one column an image, with its error; other rows of images below.

    Args:
        inputs: [B, C, H, W] uint8.
        outputs: [B, C, H, W] floats in [0, 1], denormalized; values outside are clipped.
        errors: B numbers, written below the outputs.
        others: Name of a row -> its images, [B, C, H, W] floats like the outputs.
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.
        title: The heading.
        caption: What was done: run, split, seed.

    Raises:
        DataError: If there are no images, or they do not fit.
        UsageError: If the suffix of `path` is unknown.
    """
    drawn = {"input": inputs / 255.0, "output": outputs, **others}
    if not inputs.size or len(errors) != len(inputs) or any(row.shape != inputs.shape for row in drawn.values()):
        shapes = [list(row.shape) for row in drawn.values()]
        raise DataError(f"rows of images {shapes} with {len(errors)} errors do not fit together")
    left, under, gap = 1.05, 0.28, 0.12  # in tiles: the names of the rows, the errors, and between the parts
    tops = [0.0, 1.0, *(2.0 + under + row * (1 + gap) for row in range(len(others)))]
    columns, rows = len(inputs) + left, tops[-1] + 1 + (0.0 if others else under)
    width, height = _size(columns, rows)
    with drawing(path, width=width, height=height) as figure:
        heading(figure, title=title, caption=caption)
        axes = _tile_axes(figure, columns=columns, rows=rows)
        for top, (name, images) in zip(tops, drawn.items(), strict=True):
            axes.text(left - 0.12, top + 0.5, name, ha="right", va="center", color=theme().faint, fontsize=9)
            for column, image in enumerate((np.nan_to_num(images).clip(0.0, 1.0) * 255.0).round().astype(np.uint8)):
                _tile(axes, image, x=left + column, y=top)
        for column, error in enumerate(errors):
            axes.text(
                left + column + 0.5, 2.0, f"{error:.3f}", ha="center", va="top", fontsize=7.5, color=theme().faint
            )


def neighbors_grid(
    queries: NDArray[np.uint8],
    neighbors: NDArray[np.uint8],
    *,
    path: Path,
    title: str,
    caption: str = "",
    query_labels: NDArray[Any] | None = None,
    neighbor_labels: NDArray[Any] | None = None,
    classes: Sequence[str] = (),
) -> None:
    """Draw each query with its nearest neighbors to the right, nearest first.

    With labels, a neighbor of the query's class has a green frame, one of another class an orange, dashed frame;
    a neighbor or query without a known label (-1) has none.

    Args:
        queries: [Q, C, H, W] uint8.
        neighbors: [Q, K, C, H, W] uint8.
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.
        title: The heading.
        caption: What was done: metric, run.
        query_labels: [Q] integers, or None.
        neighbor_labels: [Q, K] integers, or None.
        classes: The name of each label.

    Raises:
        DataError: If images or labels do not fit, or images have other than 1 or 3 channels.
        UsageError: If the suffix of `path` is unknown.
    """
    if neighbors.ndim != 5 or queries.ndim != 4 or len(neighbors) != len(queries) or not neighbors.size:
        raise DataError(f"neighbors {list(neighbors.shape)} do not belong to queries {list(queries.shape)}")
    query_labels, neighbor_labels = _known_labels(query_labels, neighbor_labels, shape=neighbors.shape[:2])
    named = bool((query_labels >= 0).any() or (neighbor_labels >= 0).any())
    pitch, gap, head = 1.24 if named else 1.06, 0.2, 0.28  # in tiles: a row with its names, after the query, headings
    columns, rows = 1 + neighbors.shape[1], len(queries) * pitch + head
    width, height = _size(columns + gap, rows)
    with drawing(path, width=width, height=height) as figure:
        heading(figure, title=title, caption=caption)
        axes = _tile_axes(figure, columns=columns + gap, rows=rows)
        for column in range(columns):
            name = "query" if column == 0 else str(column)
            x = column + (gap if column else 0.0) + 0.5
            axes.text(x, head - 0.08, name, ha="center", va="bottom", color=theme().faint, fontsize=8.5)
        for row, (query, label) in enumerate(zip(queries, query_labels, strict=True)):
            top = head + row * pitch
            _tile(axes, query, x=0.0, y=top)
            _name(axes, int(label), classes, x=0.5, y=top)
            for column, (image, other) in enumerate(zip(neighbors[row], neighbor_labels[row], strict=True)):
                _tile(axes, image, x=1 + gap + column, y=top)
                _name(axes, int(other), classes, x=1.5 + gap + column, y=top)
                if label >= 0 and other >= 0:
                    _frame(axes, right=bool(label == other), x=1 + gap + column, y=top)
    note_numbered(np.union1d(query_labels, neighbor_labels).tolist(), classes)


def _known_labels(
    query_labels: NDArray[Any] | None, neighbor_labels: NDArray[Any] | None, *, shape: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels [Q] and [Q, K], -1 where nothing is known."""
    query_labels = np.full(shape[0], -1) if query_labels is None else query_labels
    neighbor_labels = np.full(shape, -1) if neighbor_labels is None else neighbor_labels
    if query_labels.shape != shape[:1] or neighbor_labels.shape != shape:
        given = f"{list(query_labels.shape)} and {list(neighbor_labels.shape)}"
        raise DataError(f"labels {given} do not belong to neighbors {list(shape)}")
    return query_labels, neighbor_labels


def _size(columns: float, rows: float) -> tuple[float, float]:
    """Width and height in inches, within what a viewer can open."""
    tile = min(_TILE_INCHES, _MAX_INCHES / max(columns, rows))
    return max(_MIN_WIDTH, columns * tile + 0.4), rows * tile + 0.2 + HEADING_INCHES


def _tile_axes(figure: Figure, *, columns: float, rows: float) -> Axes:
    """Axes whose unit is one tile, the origin at the top left."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0.2 / width, 0.2 / height, 1 - 0.4 / width, 1 - (0.2 + HEADING_INCHES) / height))
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.set_aspect("equal", anchor="NW")
    axes.axis("off")
    return axes


def _tile(axes: Axes, image: NDArray[np.uint8], *, x: float, y: float) -> None:
    channels = image.shape[0]
    if channels not in (1, 3):
        raise DataError(f"images of {channels} channels cannot be drawn, only 1 or 3")
    limits = axes.get_xlim(), axes.get_ylim()
    pixels = image[0] if channels == 1 else image.transpose(1, 2, 0)
    extent = (x + 0.03, x + 0.97, y + 0.97, y + 0.03)
    axes.imshow(pixels, extent=extent, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
    axes.set(xlim=limits[0], ylim=limits[1])


def _frame(axes: Axes, *, right: bool, x: float, y: float) -> None:
    from matplotlib.patches import Rectangle

    color, dashes = _RIGHT if right else _WRONG
    axes.add_patch(Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, fill=False, edgecolor=color, linewidth=2.4,
                             linestyle=dashes, zorder=3))  # fmt: skip


def _name(axes: Axes, label: int, classes: Sequence[str], *, x: float, y: float) -> None:
    if label >= 0:
        axes.text(
            x, y + 1.0, class_name(label, classes, limit=14), ha="center", va="top", fontsize=7.5, color=theme().faint
        )

"""The map of embeddings: points in the plane, told apart by class, names drawn where the classes are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.viz.canvas import (
    HEADING_INCHES,
    class_name,
    drawing,
    heading,
    note_numbered,
)
from contrastive_cli.viz.fonts import draw_in_any_script
from contrastive_cli.viz.theme import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

MAX_NAMED_CLASSES: Final = 100
_MARKERS: Final = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p")  # every ten classes the colors begin again
_BESIDE: Final = 20  # classes in a legend beside the map; that of more is below it, in columns
_WIDTH, _MARGIN = 9.5, 0.2  # inches
_INCHES_PER_LETTER: Final = 0.082
_LEGEND: Final[dict[str, Any]] = {"borderaxespad": 0.0, "handletextpad": 0.2, "columnspacing": 0.6}
_FLATTEST, _TALLEST = 0.5, 1.15  # heights of the map to its width
_MAX_VECTOR_POINTS: Final = 3000  # beyond, the points of an SVG become one embedded image


def scatter(
    coordinates: NDArray[Any],
    *,
    labels: NDArray[Any] | None,
    classes: Sequence[str],
    title: str,
    caption: str,
    path: Path,
) -> None:
    """Draw a map: up to 100 classes by color, shape, name and legend; more by a continuous color.

    Args:
        coordinates: [N, 2] floats, finite.
        labels: [N] integers, -1 where unknown, or None.
        classes: The name of each label.
        title: The heading.
        caption: What was done: method, N, seed.
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.

    Raises:
        DataError: If the coordinates are not finite or the labels do not fit.
        UsageError: If the suffix of `path` is unknown.
    """
    if coordinates.ndim != 2 or coordinates.shape[1] != 2 or not np.isfinite(coordinates).all():
        raise DataError(f"a map needs finite coordinates [N, 2], not an array of shape {list(coordinates.shape)}")
    labels = np.full(len(coordinates), -1) if labels is None else labels
    if labels.shape != (len(coordinates),):
        raise DataError(f"labels of shape {list(labels.shape)} do not belong to {len(coordinates)} points")
    present = np.unique(labels[labels >= 0])
    names = [class_name(int(i), classes, limit=18) for i in present[: MAX_NAMED_CLASSES + 1]]
    is_named = 0 < len(names) <= MAX_NAMED_CLASSES
    is_beside = is_named and len(names) <= _BESIDE
    beside = (
        _entry_inches(names, count=len(coordinates)) if is_beside else 1.1 if len(names) and not is_named else _MARGIN
    )
    map_width = _WIDTH - _MARGIN - beside
    map_height = max(map_width * _relative_height(coordinates), _legend_inches(len(names) + 1) if is_beside else 0.0)
    columns = max(1, int((_WIDTH - _MARGIN) / _small_entry_inches(names, labels))) if is_named else 1
    below = 0.1 + 0.16 * -(-(len(names) + 1) // columns) if is_named and not is_beside else 0.0
    height = map_height + HEADING_INCHES + _MARGIN + below
    with drawing(path, width=_WIDTH, height=height) as figure:
        heading(figure, title=title, caption=caption)
        axes = figure.add_axes((_MARGIN / _WIDTH, (_MARGIN + below) / height, map_width / _WIDTH, map_height / height))
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        _scatter_points(axes, coordinates[labels < 0], colors=theme().rule, count=len(coordinates))
        if len(present) > MAX_NAMED_CLASSES:
            _scatter_many(axes, coordinates[labels >= 0], labels=labels[labels >= 0])
        elif len(present):
            handles = _scatter_named(axes, coordinates, labels=labels, names=names)
            if is_beside:
                axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), **_LEGEND)
            else:
                corner = (_MARGIN / 2 / _WIDTH, (_MARGIN / 2 + below) / height)
                figure.legend(handles=handles, loc="upper left", bbox_to_anchor=corner, ncols=columns, fontsize=7.5,
                              **_LEGEND)  # fmt: skip
            note_numbered(present.tolist(), classes)


def _relative_height(coordinates: NDArray[Any]) -> float:
    """Of the map to its width: as of what it shows, so that no part of it is empty, but never a strip."""
    width, height = np.ptp(coordinates, axis=0)
    return float(np.clip(height / max(width, 1e-12), _FLATTEST, _TALLEST)) if height > 0 else _FLATTEST


def _entry_inches(names: Sequence[str], *, count: int) -> float:
    """How wide an entry of the legend is."""
    return 0.55 + _INCHES_PER_LETTER * (max(map(len, [*names, "unlabeled"])) + 3 + len(str(count)))


def _small_entry_inches(names: Sequence[str], labels: NDArray[Any]) -> float:
    """The same in the legend of many classes, whose letters are smaller."""
    largest = np.unique(labels, return_counts=True)[1].max()
    return 0.36 + 0.066 * (max(map(len, [*names, "unlabeled"])) + 3 + len(str(largest)))


def _legend_inches(lines: int) -> float:
    return 0.2 + 0.21 * lines


def _scatter_points(axes: Axes, coordinates: NDArray[Any], *, colors: Any, count: int, marker: str = "o") -> None:
    """Draw some of the `count` points of a map; how large depends on all of them."""
    axes.scatter(
        coordinates[:, 0],
        coordinates[:, 1],
        c=colors,
        marker=marker,
        s=float(np.clip(700.0 / math.sqrt(max(count, 1)), 3.0, 42.0)),
        alpha=0.85 if count < 2000 else 0.6,
        linewidths=0.4 if count < 2000 else 0.0,
        edgecolors=theme().paper,
        rasterized=count > _MAX_VECTOR_POINTS,
    )


def _scatter_named(
    axes: Axes, coordinates: NDArray[Any], *, labels: NDArray[Any], names: Sequence[str]
) -> list[Line2D]:
    """Draw every class by color and shape, with its name where it lies; returns the entries of the legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    present, ranks = np.unique(labels[labels >= 0], return_inverse=True)
    known = coordinates[labels >= 0]
    palette = theme().palette
    many = len(names) > _BESIDE
    # One call for all classes of a shape, in random order: no class hides the others.
    order = np.random.default_rng(0).permutation(len(known))
    for shape, marker in enumerate(_MARKERS[: -(-len(names) // len(palette))]):
        chosen = order[ranks[order] // len(palette) == shape]
        colors = [palette[rank % len(palette)] for rank in ranks[chosen]]
        _scatter_points(axes, known[chosen], colors=colors, count=len(coordinates), marker=marker)
    halo = [withStroke(linewidth=1.8 if many else 2.6, foreground=theme().paper)]
    texts = []
    for rank, name in enumerate(names):
        x, y = np.median(known[ranks == rank], axis=0)
        texts.append(axes.text(x, y, name, fontsize=6.5 if many else 9.5, fontweight="normal" if many else "bold",
                               ha="center", va="center", color=theme().ink, path_effects=halo, zorder=5))  # fmt: skip
    _push_apart(axes, texts)
    handles = [
        Line2D([], [], linestyle="", markersize=5.5 if many else 7, marker=_MARKERS[rank // len(palette)],
               color=palette[rank % len(palette)], markeredgewidth=0, label=f"{name} ({(ranks == rank).sum()})")
        for rank, name in enumerate(names)
    ]  # fmt: skip
    if len(present) < len(np.unique(labels)):
        unknown = f"unlabeled ({(labels < 0).sum()})"
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=7, color=theme().rule, label=unknown))
    return handles


def _scatter_many(axes: Axes, coordinates: NDArray[Any], *, labels: NDArray[Any]) -> None:
    order = np.random.default_rng(0).permutation(len(coordinates))
    _scatter_points(axes, coordinates[order], colors=labels[order], count=len(coordinates))
    figure = axes.get_figure(root=True)
    assert figure is not None
    inset = axes.inset_axes((1.03, 0.25, 0.03, 0.5))
    bar = figure.colorbar(axes.collections[-1], cax=inset)
    if bar.solids is not None:
        bar.solids.set_alpha(1.0)
    bar.set_label(f"class number ({len(np.unique(labels))} classes)", color=theme().faint)
    bar.outline.set_visible(False)


def _push_apart(axes: Axes, texts: Sequence[Text]) -> None:
    """Move overlapping names up and down, within the map, until none overlap (or 400 rounds have passed).

    A line leads from a name that had to go far to where its class is.
    """
    axes.autoscale_view()
    axes.apply_aspect()
    axes.set_autoscale_on(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    draw_in_any_script(figure)  # letters of another font are wider
    boxes = [text.get_window_extent() for text in texts]
    frame = axes.get_window_extent()
    middles = np.array([(box.y0 + box.y1) / 2 for box in boxes])
    for _ in range(400):
        moved = False
        for first in range(len(boxes)):
            for second in range(first):
                a, b = boxes[first], boxes[second]
                gap = middles[first] - middles[second]
                overlap = (a.height + b.height) / 2 - abs(gap)
                if overlap > 0 and a.x0 < b.x1 and b.x0 < a.x1:
                    shift = (overlap / 2 + 0.5) * (1.0 if gap >= 0 else -1.0)
                    middles[first] += shift
                    middles[second] -= shift
                    moved = True
        for number, box in enumerate(boxes):
            lowest, highest = frame.y0 + box.height / 2 + 2, frame.y1 - box.height / 2 - 2
            middles[number] = min(max(middles[number], lowest), highest)
        if not moved:
            break
    to_data = axes.transData.inverted()
    for text, box, middle in zip(texts, boxes, middles, strict=True):
        half = box.width / 2 + 2
        center = min(max((box.x0 + box.x1) / 2, frame.x0 + half), frame.x1 - half)
        before = text.get_position()
        x, y = to_data.transform((center, middle))
        text.set_position((float(x), float(y)))
        if abs(middle - (box.y0 + box.y1) / 2) > 1.5 * box.height:
            axes.plot([before[0], x], [before[1], y], color=theme().ink, linewidth=0.6, alpha=0.7, zorder=4)

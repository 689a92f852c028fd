"""The heat map of similarities as a static figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.viz.canvas import HEADING_INCHES, drawing, heading, safe_text
from contrastive_cli.viz.embedding_map import Thumbnails
from contrastive_cli.viz.theme import theme

MOST_NUMBERS: Final = 16  # images up to which each cell carries its number
MOST_PICTURES: Final = 60  # up to which pictures stand along the sides
MOST_NAMES: Final = 40


def similarity_heat_map(
    values: NDArray[np.float64],
    names: Sequence[str],
    *,
    thumbnails: Thumbnails | None,
    path: Path,
    title: str,
    caption: str = "",
    threshold: float | None = None,
) -> None:
    """Draw values [N, N] in color, with the pictures along both sides and the names at the left.

    Args:
        values: Cosines.
        names: N names.
        thumbnails: N pictures, or None.
        path: A figure's file.
        title: Heading.
        caption: Small line below it.
        threshold: Pairs at or above it are framed.

    Raises:
        UsageError: If the suffix of `path` is unknown.
        RunError: If the file cannot be written.
    """
    count = len(values)
    cell = float(np.clip(7.0 / count, 0.09, 0.62))  # inches
    side = cell * count
    edge = cell if thumbnails is not None and count <= MOST_PICTURES else 0.0
    left = (1.9 if count <= MOST_NAMES else 0.3) + edge
    width, height = left + side + 1.0, HEADING_INCHES + edge + side + 0.3
    low, high = color_range(values)
    with drawing(path, width=max(width, 5.0), height=height) as figure:
        heading(figure, title=title, caption=caption)
        full_width = max(width, 5.0)
        axes = figure.add_axes((left / full_width, 0.15 / height, side / full_width, side / height))
        others = np.ma.masked_array(values, mask=np.eye(count, dtype=bool))  # an image is like itself in any case
        image = axes.imshow(others, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
        axes.set(xticks=[], xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
        axes.set_yticks(range(count) if count <= MOST_NAMES else [])
        if count <= MOST_NAMES:
            axes.set_yticklabels([safe_text(Path(name).name or name, any_font=True) for name in names], fontsize=7.5)
        axes.tick_params(length=0, pad=4 + 72 * edge, labelcolor=theme().ink)
        axes.spines[:].set_visible(False)
        bar = figure.add_axes(((left + side + 0.18) / full_width, 0.15 / height, 0.14 / full_width, side / height))
        figure.colorbar(image, cax=bar).outline.set_visible(False)
        bar.tick_params(labelsize=7.5, color=theme().faint)
        if thumbnails is not None and edge:
            for number in np.flatnonzero(thumbnails.present).tolist():
                pixels = thumbnails.pixels[number].transpose(1, 2, 0).squeeze()
                own = (number - 0.46, number + 0.46)
                for place in ((-1.46, -0.54, own[1], own[0]), (*own, -0.54, -1.46)):  # at the left, and above
                    axes.imshow(pixels, extent=place, cmap="gray", vmin=0, vmax=255, clip_on=False)
            axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
        _write_cells(axes, values, threshold)


def color_range(values: NDArray[np.float64]) -> tuple[float, float]:
    """The least and the largest of [N, N] beside the diagonal, whose ones would leave few colors to all others."""
    others = values[~np.eye(len(values), dtype=bool)]
    low, high = float(others.min()), float(others.max())
    return low, high if high > low else low + 0.1


def _write_cells(axes: object, values: NDArray[np.float64], threshold: float | None) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

    assert isinstance(axes, Axes)
    count = len(values)
    middle = sum(color_range(values)) / 2
    for row in range(count):
        for column in range(count):
            if row == column:
                continue
            value = float(values[row, column])
            color = "black" if value > middle else "white"
            if count <= MOST_NUMBERS:
                axes.text(
                    column,
                    row,
                    f"{value:.2f}".replace("-0.00", "0.00"),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=color,
                )
            if threshold is not None and value >= threshold:
                axes.add_patch(
                    Rectangle((column - 0.44, row - 0.44), 0.88, 0.88, fill=False, edgecolor=color, linewidth=1.2)
                )

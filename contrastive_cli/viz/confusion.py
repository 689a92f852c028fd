"""The confusion matrix: which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.viz.canvas import HEADING_INCHES, class_name, drawing, heading
from contrastive_cli.viz.theme import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NUMBERED: Final = 20  # classes whose cells hold a number
MAX_NAMED: Final = 60  # classes that are named at the axes
_LARGEST: Final = 8.5  # inches of the matrix


def confusion_figure(
    matrix: NDArray[np.integer[Any]], *, classes: Sequence[str], path: Path, title: str, caption: str = ""
) -> None:
    """Draw a confusion matrix, one row a class, colored by the part of its images.

    Args:
        matrix: [C, C] counts, by class and predicted class.
        classes: The name of each class; may be fewer than C.
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.
        title: The heading.
        caption: What was done.

    Raises:
        DataError: If the matrix is not square or empty.
        UsageError: If the suffix of `path` is unknown.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise DataError(f"a confusion matrix is [C, C], not an array of shape {list(matrix.shape)}")
    count = len(matrix)
    names = [class_name(label, classes, limit=16) for label in range(count)] if count <= MAX_NAMED else []
    side = min(_LARGEST, max(2.6, (0.44 if count <= MAX_NUMBERED else 0.16) * count))
    left, below = (0.35 + 0.075 * max(map(len, names)) if names else 0.5 for _ in range(2))
    width, height = max(5.0, left + side + 0.3), below + side + HEADING_INCHES + 0.1
    with drawing(path, width=width, height=height) as figure:
        heading(figure, title=title, caption=caption)
        axes = figure.add_axes((left / width, below / height, side / width, side / height))
        parts = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(parts, cmap=_shades(), vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        axes.spines[:].set_visible(True)
        axes.set(ylabel="class", xlabel="predicted")
        small = 8 if count <= MAX_NUMBERED else 5.5
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=small)
        axes.set_yticks(range(len(names)), names, fontsize=small)
        axes.tick_params(length=0)
        if count <= MAX_NUMBERED:
            _write_counts(axes, matrix, parts)


def _shades() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("parts", [theme().paper, theme().palette[0]])


def _write_counts(axes: Axes, matrix: NDArray[Any], parts: NDArray[Any]) -> None:
    for (row, column), number in np.ndenumerate(matrix):
        if number:
            color = theme().paper if parts[row, column] > 0.55 else theme().ink
            axes.text(column, row, f"{number}", ha="center", va="center", fontsize=7.5, color=color)

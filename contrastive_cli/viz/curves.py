"""Figures over time and over labels: training curves, and accuracy by the part of the labels that was used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.percent import rounded_percent
from contrastive_cli.viz.canvas import HEADING_INCHES, drawing, heading, safe_text
from contrastive_cli.viz.series import by_progress, series
from contrastive_cli.viz.theme import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Key in metrics.jsonl, heading of its panel, whether it is a fraction shown in percent.
PANELS: Final = (
    ("train/lr", "Learning rate", False),
    ("online/knn", "Online kNN accuracy", True),
    ("online/spread", "Spread of embeddings", False),
    ("online/effective_rank", "Effective rank", False),
)
_REFERENCES: Final = (("train/loss_chance", "chance", 6), ("train/loss_aligned", "aligned", 4))
_SMOOTHED_FROM: Final = 200  # points; a longer loss curve is drawn faint, with its running mean on top


def curves(records: Sequence[Mapping[str, Any]], *, path: Path, title: str, caption: str = "") -> None:
    """Draw what `metrics.jsonl` holds: the loss between its reference lines, learning rate, online measures.

    The horizontal axis is the epoch, or the step where an epoch has several records. Of records with one step (after
    a resume) the last counts. Values that are not finite are left out.

    Raises:
        DataError: If no record holds anything to draw.
        UsageError: If the suffix of `path` is unknown.
    """
    axis, rows = by_progress(records)
    panels = [panel for panel in PANELS if len(series(rows, key=panel[0])[0])]
    has_loss = len(series(rows, key="train/loss")[0]) > 0
    if not panels and not has_loss:
        raise DataError("the records hold no loss and no online measure: nothing to draw")
    columns = min(2, len(panels))
    with drawing(path, width=4.6 * has_loss + 3.2 * columns + 0.4, height=5.6) as figure:
        heading(figure, title=title, caption=caption)
        figure.set_layout_engine("constrained", rect=(0.01, 0.01, 0.98, 0.99 - HEADING_INCHES / 5.6), wspace=0.06)
        ratios = [1.45] * has_loss + [1.0] * columns
        grid = figure.add_gridspec(max(1, math.ceil(len(panels) / 2)), len(ratios), width_ratios=ratios)
        if has_loss:
            _draw_loss(figure.add_subplot(grid[:, 0]), rows)
        for number, (key, name, percent) in enumerate(panels):
            axes = figure.add_subplot(grid[number // 2, has_loss + number % 2])
            _draw_values(axes, *series(rows, key=key), color=theme().palette[0])
            axes.set_title(name)
            if percent:
                axes.yaxis.set_major_formatter(percent_label)
        for axes in figure.axes:
            axes.set_xlabel(axis)
            axes.grid(visible=True)


def accuracy_over_labels(rows: Sequence[Mapping[str, Any]], *, path: Path, title: str, caption: str = "") -> None:
    """Draw accuracy over label fraction, one line per feature set and head, with its interval.

    Args:
        rows: Mappings with `features`, `head`, `label_share` in (0, 1], `accuracy` in [0, 1] and, if known,
            `ci95` as (low, high).
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.
        title: The heading.
        caption: What was done.

    Raises:
        DataError: If there are no rows, or a fraction is not in (0, 1].
        UsageError: If the suffix of `path` is unknown.
    """
    if not rows or not all(0 < row["label_share"] <= 1 for row in rows):
        raise DataError("accuracy over labels needs rows with a label fraction above 0 and at most 1")
    features = list(dict.fromkeys(str(row["features"]) for row in rows))
    heads = list(dict.fromkeys(str(row["head"]) for row in rows))
    with drawing(path, width=9.4, height=5.2) as figure:
        heading(figure, title=title, caption=caption)
        figure.set_layout_engine("constrained", rect=(0.01, 0.01, 0.98, 0.99 - HEADING_INCHES / 5.2))
        axes = figure.add_subplot()
        lines = [(name, head) for name in features for head in heads]
        for number, (name, head) in enumerate(lines):
            own = [row for row in rows if (str(row["features"]), str(row["head"])) == (name, head)]
            if own:
                color = theme().palette[features.index(name) % len(theme().palette)]
                dodge = 1.03 ** (number - (len(lines) - 1) / 2)  # intervals side by side, not on top of each other
                label = safe_text(name) + (f", {safe_text(head)}" if len(heads) > 1 and head != name else "")
                _draw_accuracy(axes, own, color=color, style=("-", "--", ":", "-.")[heads.index(head) % 4],
                               dodge=dodge, label=label)  # fmt: skip
        fractions = sorted({float(row["label_share"]) for row in rows})
        axes.set_xscale("log")
        axes.set_xticks(fractions, [rounded_percent(fraction) for fraction in fractions])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(percent_label)
        axes.set(xlabel="labeled part of the training data (log scale)", ylabel="accuracy")
        axes.grid(visible=True)
        figure.legend(loc="outside right center", handlelength=3.0)


def _draw_loss(axes: Axes, rows: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
    places, values = series(rows, key="train/loss")
    smooth = len(values) >= _SMOOTHED_FROM
    _draw_values(
        axes, places, values, color=theme().palette[0], alpha=0.35 if smooth else 1.0, label="" if smooth else "loss"
    )
    if smooth:
        window = len(values) // 50
        means = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(places[window - 1 :], means, color=theme().strong, label=f"loss, mean of {window} records")
    for key, name, place in _REFERENCES:
        places, values = series(rows, key=key)
        if len(values):
            axes.plot(places, values, color=theme().palette[place], linestyle="--", label=name)
    axes.set_title("Loss")
    axes.legend(loc="best")


def _draw_values(
    axes: Axes, places: NDArray[Any], values: NDArray[Any], *, color: str, alpha: float = 1.0, label: str = ""
) -> None:
    few = len(values) <= 30
    axes.plot(places, values, color=color, alpha=alpha, marker="o" if few else "", markersize=3.5, label=label or None)


def _draw_accuracy(
    axes: Axes, rows: Sequence[Mapping[str, Any]], *, color: str, style: str, dodge: float, label: str
) -> None:
    ordered = sorted(rows, key=lambda row: float(row["label_share"]))
    places = np.array([row["label_share"] for row in ordered], dtype=np.float64) * dodge
    values = np.array([row["accuracy"] for row in ordered], dtype=np.float64)
    low, high = np.array([row.get("ci95") or (row["accuracy"],) * 2 for row in ordered], dtype=np.float64).T
    errors = np.maximum(0.0, np.stack([values - low, high - values]))
    axes.errorbar(places, values, yerr=errors, color=color, linestyle=style, marker="o", markersize=5,
                  capsize=3, elinewidth=1.1, label=label)  # fmt: skip


def percent_label(value: float, _position: float) -> str:
    """A part of a whole as the label of an axis."""
    return f"{100 * value:g} %"

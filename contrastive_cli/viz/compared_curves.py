"""The curves of several trainings in one figure, each in its color."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contrastive_cli.core.errors import DataError
from contrastive_cli.viz.canvas import HEADING_INCHES, drawing, heading, safe_text
from contrastive_cli.viz.curves import percent_label
from contrastive_cli.viz.series import by_progress, series
from contrastive_cli.viz.theme import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = Sequence[Mapping[str, Any]]

# Key in metrics.jsonl, heading of its panel, whether it is a fraction shown in percent.
_PANELS: Final = (
    ("train/loss", "Loss", False),
    ("online/knn", "Online kNN accuracy", True),
    ("online/spread", "Spread of embeddings", False),
    ("online/effective_rank", "Effective rank", False),
)
_REFERENCES: Final = ("train/loss_chance", "train/loss_aligned")
_STYLES: Final = ("-", "--", "-.", ":")
_ROW: Final = 2.6  # inches of a row of panels


def compared_curves(runs: Mapping[str, Records], *, path: Path, title: str, caption: str = "") -> None:
    """Draw loss, online kNN, spread and rank of several trainings over their epochs, one line a training.

    The dotted lines beside a loss are its chance and its aligned value. Where the records of any training have no
    epoch the axis is the step. Values that are not finite are left out.

    Args:
        runs: The records of `metrics.jsonl` by the name of the run.
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.
        title: The heading.
        caption: What was done.

    Raises:
        DataError: If no record holds anything to draw.
        UsageError: If the suffix of `path` is unknown.
    """
    axes_of = {name: by_progress(records) for name, records in runs.items() if records}
    axis = "epoch" if all(found == "epoch" for found, _ in axes_of.values()) else "step"
    rows = {name: _on_axis(axis, runs[name], found) for name, (_, found) in axes_of.items()}
    panels = [panel for panel in _PANELS if any(len(series(own, key=panel[0])[0]) for own in rows.values())]
    if not panels:
        raise DataError("the records hold no loss and no online measure: nothing to draw")
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    entries = 0.3 + 0.22 * -(-len(runs) // 3)
    height = _ROW * lines + HEADING_INCHES + entries
    with drawing(path, width=9.4, height=height) as figure:
        heading(figure, title=title, caption=caption)
        figure.set_layout_engine("constrained", rect=(0.01, 0.01, 0.98, 0.99 - HEADING_INCHES / height))
        for number, (key, name, is_part) in enumerate(panels):
            axes = figure.add_subplot(lines, columns, number + 1)
            for place, (run, own) in enumerate(rows.items()):
                _draw_line(axes, own, key=key, place=place, label=safe_text(run, limit=40) if number == 0 else "")
            axes.set(title=name, xlabel=axis)
            axes.grid(visible=True)
            if is_part:
                axes.yaxis.set_major_formatter(percent_label)
        figure.legend(loc="outside lower left", ncols=3, handlelength=3.0)


def _on_axis(axis: str, records: Records, found: list[tuple[float, Mapping[str, Any]]]) -> Any:
    """The rows with their place on the axis that all trainings share."""
    if axis == "epoch":
        return found
    return [(float(row.get("step", number)), row) for number, row in enumerate(records)]


def _draw_line(axes: Axes, rows: Any, *, key: str, place: int, label: str) -> None:
    palette = theme().palette
    color, style = palette[place % len(palette)], _STYLES[place // len(palette) % len(_STYLES)]
    places, values = series(rows, key=key)
    if not len(values) and not label:
        return
    few = len(values) <= 30
    axes.plot(places, values, color=color, linestyle=style, marker="o" if few else "", markersize=3, linewidth=1.3,
              label=label or None)  # fmt: skip
    if key == "train/loss":
        for reference in _REFERENCES:
            places, values = series(rows, key=reference)
            if len(values):
                axes.plot(places, values, color=color, linestyle=":", linewidth=0.9, alpha=0.8)

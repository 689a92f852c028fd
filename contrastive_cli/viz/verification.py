"""The figure of a verification: the ROC curve beside the scores of both kinds of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.viz.canvas import HEADING_INCHES, drawing, heading
from contrastive_cli.viz.theme import theme

BINS = 60


def verification_figure(
    *,
    rates: tuple[NDArray[np.float64], NDArray[np.float64]],
    scores: NDArray[np.float64],
    same: NDArray[np.bool_],
    eer: float,
    threshold: float,
    path: Path,
    title: str,
    caption: str = "",
) -> None:
    """Draw the ROC curve with its equal error rate, and the distribution of the scores by kind with the threshold.

    Args:
        rates: False and true positive rates [T], of falling thresholds.
        scores: [N] cosines.
        same: [N], the truth.
        eer: Equal error rate, in [0, 1].
        threshold: Drawn into the distribution.
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.
        title: Heading.
        caption: Small line below it.

    Raises:
        UsageError: If the suffix of `path` is unknown.
        RunError: If the file cannot be written.
    """
    height = 4.4
    with drawing(path, width=9.2, height=height) as figure:
        heading(figure, title=title, caption=caption)
        figure.set_layout_engine("constrained", rect=(0.01, 0.01, 0.98, 0.99 - HEADING_INCHES / height), wspace=0.08)
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
        left.plot([0, 1], [0, 1], color=theme().rule, linewidth=1)
        left.plot(*rates, color=theme().palette[0], linewidth=1.8)
        left.plot([eer], [1 - eer], "o", color=theme().ink, markersize=4)
        left.annotate(
            f"equal error rate {100 * eer:.1f} %", (eer, 1 - eer), (8, -12), textcoords="offset points", fontsize=8.5
        )
        left.set(title="ROC", xlabel="different pairs called the same", ylabel="same pairs called the same")
        left.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
        edges = np.linspace(min(scores.min(), threshold), max(scores.max(), threshold), BINS + 1)
        for kind, name, color in ((False, "different", theme().palette[1]), (True, "same", theme().palette[0])):
            part = scores[same == kind]
            weights = np.full(len(part), 100 / len(part))
            right.hist(part, bins=edges, weights=weights, color=color, alpha=0.55, label=f"{len(part):,} {name}")
        right.axvline(threshold, color=theme().ink, linewidth=1)
        right.annotate(
            f"threshold {threshold:.4f}", (threshold, 1), (4, -9), xycoords=("data", "axes fraction"),
            textcoords="offset points", fontsize=8.5,
        )  # fmt: skip
        right.set(title="Cosine similarity", xlabel="cosine", ylabel="% of the kind's pairs")
        right.set_ylim(top=1.1 * right.get_ylim()[1])  # room for the threshold's number
        right.legend(loc="upper left")
        for axes in (left, right):
            axes.tick_params(color=theme().faint)

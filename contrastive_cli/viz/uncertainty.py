"""One figure for an uncertainty: the images at both ends of it, what it predicts, and how it answers degradation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.viz.canvas import HEADING_INCHES, drawing, heading
from contrastive_cli.viz.theme import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from contrastive_cli.embeddings.uncertainty import Bins, RejectionCurve

_COLUMNS: Final = 10
_WIDTH: Final = 11.0
_TILE: Final = 0.92  # inches, image and number
_PANEL: Final = 2.9  # inches of a row of panels
_UNITS: Final = {"crop": "area kept", "blur": "sigma, px of 32", "noise": "sigma, image in [0, 1]"}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Degradation:
    """Uncertainty [N, L] of N images at L levels, the first of which leaves them as they are."""

    kind: str
    levels: tuple[float, ...]
    uncertainty: NDArray[np.float32]

    @property
    def means(self) -> NDArray[np.float64]:
        """[L], over the images."""
        means: NDArray[np.float64] = self.uncertainty.mean(axis=0, dtype=np.float64)
        return means

    @property
    def monotone(self) -> bool:
        """Whether the mean rises at every level."""
        return bool((np.diff(self.means) > 0).all())

    @property
    def spearman(self) -> float:
        """Rank correlation of level and uncertainty over all images and levels."""
        from scipy.stats import rankdata

        ranks = rankdata(self.uncertainty, axis=None).reshape(self.uncertainty.shape)
        level = np.broadcast_to(np.arange(len(self.levels)), ranks.shape)
        return _correlation(ranks.ravel(), level.ravel())

    @property
    def spearman_per_image(self) -> float:
        """Mean over the images of the rank correlation within each."""
        from scipy.stats import rankdata

        ranks = rankdata(self.uncertainty, axis=1)
        return float(np.mean([_correlation(row, np.arange(len(self.levels))) for row in ranks]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "levels": list(self.levels),
            "mean_uncertainty": self.means.tolist(),
            "monotone": self.monotone,
            "spearman": self.spearman,
            "spearman_per_image": self.spearman_per_image,
            "images": len(self.uncertainty),
        }


def uncertainty_figure(
    ends: Sequence[NDArray[np.uint8]],
    values: Sequence[NDArray[np.floating[Any]]],
    *,
    degradations: Sequence[Degradation],
    retrieval: tuple[Bins, float, float] | None,
    rejection: tuple[RejectionCurve, float] | None,
    path: Path,
    title: str,
    caption: str = "",
) -> None:
    """Draw the surest and the least sure images over the panels.

    Args:
        ends: The surest images and the least sure, each [K, C, H, W] uint8 with C of 1 or 3, the extreme one first.
        values: Their uncertainties, each [K].
        degradations: One panel each.
        retrieval: Bins, R-AUROC and recall at 1; None leaves the panel out.
        rejection: Curve and AUROC; None leaves the panel out.
        path: A file whose suffix is one of `FIGURE_SUFFIXES`.
        title: The heading.
        caption: What was done.

    Raises:
        DataError: If there are no images, or they have other than 1 or 3 channels.
        UsageError: If the suffix of `path` is unknown.
    """
    if any(images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images) for images in ends):
        raise DataError(f"images {[list(images.shape) for images in ends]} cannot be drawn")
    rows = -(-max(len(images) for images in ends) // _COLUMNS)
    labeled = retrieval is not None and rejection is not None
    top, tiles = HEADING_INCHES, 2 * (rows * _TILE * 1.16 + 0.36)
    height = top + tiles + _PANEL * (1 + labeled) + 0.1
    with drawing(path, width=_WIDTH, height=height) as figure:
        heading(figure, title=title, caption=caption)
        for number, (name, images, numbers) in enumerate(
            zip(("most certain", "least certain"), ends, values, strict=True)
        ):
            below = 1 - (top + number * tiles / 2) / height
            axes = figure.add_axes((0.2 / _WIDTH, below - tiles / 2 / height, 1 - 0.4 / _WIDTH, tiles / 2 / height))
            _draw_tiles(axes, images, numbers, name=name, inches=tiles / 2)
        below = 1 - (top + tiles) / height
        panels = _panels(figure, bottom=0.0, top=below, rows=1 + labeled)
        if retrieval is not None and rejection is not None:
            _draw_reliability(figure.add_subplot(panels[0, :3]), *retrieval)
            _draw_rejection(figure.add_subplot(panels[0, 3:]), *rejection)
        shared: Axes | None = None
        for number, degradation in enumerate(degradations):
            axes = figure.add_subplot(panels[-1, 2 * number : 2 * number + 2], sharey=shared)
            _draw_degradation(axes, degradation)
            if shared is None:
                axes.set_ylabel("uncertainty")
                shared = axes


def _panels(figure: Figure, *, bottom: float, top: float, rows: int) -> Any:
    height = figure.get_size_inches()[1]
    return figure.add_gridspec(
        rows, 6, left=0.85 / _WIDTH, right=1 - 0.3 / _WIDTH, bottom=bottom + 0.55 / height, top=top - 0.4 / height,
        wspace=1.0, hspace=0.45,
    )  # fmt: skip


def _draw_tiles(
    axes: Axes, images: NDArray[np.uint8], numbers: NDArray[np.floating[Any]], *, name: str, inches: float
) -> None:
    width = (_WIDTH - 0.4) / _TILE
    axes.set(xlim=(0, width), ylim=(inches / _TILE, 0))
    axes.axis("off")
    axes.text(0, 0.2, name, ha="left", va="center", fontsize=10.5, fontweight="bold", color=theme().ink)
    step = width / _COLUMNS
    for place, (image, number) in enumerate(zip(images, numbers, strict=True)):
        x, y = place % _COLUMNS * step, 0.36 + place // _COLUMNS * 1.16
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        limits = axes.get_xlim(), axes.get_ylim()
        axes.imshow(pixels, extent=(x + 0.03, x + 0.97, y + 0.97, y + 0.03), cmap="gray", vmin=0, vmax=255,
                    interpolation="nearest", aspect="auto")  # fmt: skip
        axes.set(xlim=limits[0], ylim=limits[1])
        axes.text(x + 0.5, y + 0.99, f"{number:.2f}", ha="center", va="top", fontsize=7.5, color=theme().faint)


def _draw_reliability(axes: Axes, bins: Bins, auroc: float, recall: float) -> None:
    places = np.arange(1, len(bins.correct) + 1)
    axes.plot(places, 100 * bins.correct, color=theme().palette[0], marker="o", markersize=5)
    axes.axhline(100 * recall, color=theme().faint, linestyle="--", linewidth=1.0)
    axes.set_title(f"Recall at 1 by uncertainty; R-AUROC {auroc:.3f}")
    axes.set(xlabel="tenth of the images, surest first", ylabel="neighbor of the same class, %")
    axes.grid(visible=True)
    axes.set_xticks(places)


def _draw_rejection(axes: Axes, curve: RejectionCurve, auroc: float) -> None:
    start = min(len(curve.kept) - 1, len(curve.kept) // 50)  # the accuracy of a handful of images is noise
    axes.plot(100 * curve.kept[start:], 100 * curve.accuracy[start:], color=theme().palette[0], label="by uncertainty")
    errors = 1 - curve.accuracy[-1]
    best = np.minimum(1.0, (1 - errors) / curve.kept[start:])
    axes.plot(100 * curve.kept[start:], 100 * best, color=theme().palette[4], linestyle=":", label="errors first")
    axes.axhline(100 * curve.accuracy[-1], color=theme().faint, linestyle="--", linewidth=1.0, label="at random")
    axes.set_title(f"Linear probe over the part kept; AUROC {auroc:.3f}")
    axes.set(xlabel="part of the images kept, %", ylabel="accuracy, %")
    axes.grid(visible=True)
    axes.legend(loc="best", fontsize=8)


def _draw_degradation(axes: Axes, degradation: Degradation) -> None:
    low, high = np.quantile(degradation.uncertainty, (0.25, 0.75), axis=0)
    places = np.arange(len(degradation.levels))
    axes.fill_between(places, low, high, color=theme().palette[0], alpha=0.2, linewidth=0)
    axes.plot(places, degradation.means, color=theme().palette[0], marker="o", markersize=4)
    axes.set_xticks(places, [f"{level:g}" for level in degradation.levels])
    axes.set_title(f"{degradation.kind.capitalize()}; Spearman {degradation.spearman:.2f}")
    axes.set_xlabel(_UNITS.get(degradation.kind, "level"))
    axes.grid(visible=True)


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0

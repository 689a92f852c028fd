"""What a run's uncertainty means: the surest and least sure images, and figures that say whether it can be trusted.

`clr plot uncertainty` reaches this module. Images are measured on a split that was not trained on; the linear probe is
fitted on images of train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress, Uncertain
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.embeddings.uncertainty import (
    Bins,
    RejectionCurve,
    error_auroc,
    neighbor_is_same_class,
    rejection_curve,
    reliability,
)
from contrastive_cli.services.artifacts import register_artifact, write_result
from contrastive_cli.services.configuration import read_run_config
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.display import for_display
from contrastive_cli.services.inference.model import Model, embed_with_uncertainty
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.views.geometry import crop_resize, gaussian_blur
from contrastive_cli.viz.uncertainty import Degradation, uncertainty_figure

PROBE_IMAGES: Final = 10_000
DEGRADED_IMAGES: Final = 500
SHOWN: Final = 20  # surest images drawn, and as many of the least sure
CURVE_POINTS: Final = 20

# Strengths, from none; sigma of the blur is for images of 32 px and grows with the side.
CROP_AREAS: Final = (1.0, 0.8, 0.6, 0.4, 0.25, 0.15)
BLUR_SIGMAS: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
NOISE_SIGMAS: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measurement:
    """Uncertainty [N] of the images, what was degraded, and, with labels, what it predicts.

    Attributes:
        chosen: [N] positions of the images in the split.
        uncertainty: [N], larger where the method is less sure.
        degradations: One a kind.
        retrieval: Bins of recall at 1, with its R-AUROC and recall; None without labels.
        rejection: Accuracy of a linear probe over the part kept, and its AUROC; None without labels.
    """

    images: ImageSet
    chosen: NDArray[np.int64]
    uncertainty: NDArray[np.float32]
    degradations: tuple[Degradation, ...]
    retrieval: tuple[Bins, float, float] | None
    rejection: tuple[RejectionCurve, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json` and the result file."""
        value: dict[str, Any] = {
            "dataset": self.images.name,
            "split": self.images.split,
            "fingerprint": self.images.fingerprint,
            "images": len(self.chosen),
            "uncertainty": _summary(self.uncertainty),
            "degradation": {each.kind: each.to_dict() for each in self.degradations},
        }
        if self.retrieval is not None:
            bins, auroc, recall = self.retrieval
            value["retrieval"] = {
                "r_auroc": auroc,
                "recall_at_1": recall,
                "bins": {name: getattr(bins, name).tolist() for name in ("uncertainty", "correct", "count")},
            }
        if self.rejection is not None:
            curve, auroc = self.rejection
            points = np.ceil(np.linspace(1 / CURVE_POINTS, 1, CURVE_POINTS) * len(curve.kept)).astype(int) - 1
            value["rejection"] = {
                "auroc": auroc,
                "accuracy": float(curve.accuracy[-1]),
                "area": curve.area,
                "best_area": curve.best_area,
                "kept": curve.kept[points].tolist(),
                "accuracy_of_kept": curve.accuracy[points].tolist(),
            }
        ends = (
            self.images.paths[self.chosen[np.argmin(self.uncertainty)]],
            self.images.paths[self.chosen[np.argmax(self.uncertainty)]],
        )
        value["most_certain"], value["least_certain"] = ends
        return value


def measure_uncertainty(
    model: Model,
    *,
    split: str,
    limit: int,
    seed: int,
    dataset: DatasetConfig | None = None,
    progress: CountProgress | None = None,
) -> Measurement:
    """Measure at most `limit` images of a split.

    Raises:
        UsageError: If the run's method has no uncertainty.
        DataError: If the images cannot be had.
    """
    if not isinstance(model.method, Uncertain):
        raise UsageError(
            f"{model.run.name} is a run of {model.manifest.method}, which has no uncertainty",
            hint="choose a --run of prob-simclr or vae",
        )
    images = open_split(model, split, dataset=dataset, progress=progress)
    chosen = draw_positions(images.num_samples, limit=limit, seed=seed)
    pixels = np.asarray(images.images[chosen])
    vectors, uncertainty = embed_with_uncertainty(model, pixels, progress=progress)
    assert uncertainty is not None, "the method is Uncertain"
    retrieval = rejection = None
    known = images.labels[chosen] >= 0
    labels = images.labels[chosen][known]
    if len(np.unique(labels)) > 1:
        same = neighbor_is_same_class(vectors[known], labels)
        sure = uncertainty[known]
        retrieval = reliability(same, sure), error_auroc(same, sure), float(same.mean())
        predicted, classes = _probe(model, vectors[known], seed=seed, dataset=dataset, progress=progress)
        nameable = np.isin(labels, classes)  # no probe can name a class that it was not shown
        if nameable.any():
            correct = predicted[nameable] == labels[nameable]
            rejection = rejection_curve(correct, sure[nameable]), error_auroc(correct, sure[nameable])
    return Measurement(
        images=images,
        chosen=chosen,
        uncertainty=uncertainty,
        degradations=tuple(_degrade(model, pixels[:DEGRADED_IMAGES], seed=seed, progress=progress)),
        retrieval=retrieval,
        rejection=rejection,
    )


def plot_uncertainty(run: Run, measurement: Measurement, *, out: Path | None) -> tuple[Path, Path]:
    """Draw the figure and write `eval/uncertainty-<dataset>.json`; returns both files."""
    images, dataset = measurement.images, read_run_config(run).dataset
    target = out or run.path / "plots" / f"uncertainty-{images.name}.png"
    order = np.argsort(measurement.uncertainty, kind="stable")
    shown = min(SHOWN, len(order) // 2)
    ends = [order[:shown], order[::-1][:shown]]
    uncertainty_figure(
        [for_display(np.asarray(images.images[measurement.chosen[end]]), dataset) for end in ends],
        [measurement.uncertainty[end] for end in ends],
        degradations=measurement.degradations,
        retrieval=measurement.retrieval,
        rejection=measurement.rejection,
        path=target,
        title=f"uncertainty of {images.name} {images.split}",
        caption=f"{run.name}, {len(order)} images; larger is less sure",
    )
    register_artifact(run, target, kind="plot")
    return target, write_result(run, f"uncertainty-{images.name}", measurement.to_dict())


def describe(measurement: Measurement) -> list[str]:
    """What was found, a sentence a line."""
    lines = []
    if measurement.retrieval is not None:
        _, auroc, recall = measurement.retrieval
        lines.append(f"R-AUROC {auroc:.3f} (0.5 is chance): predicts a nearest neighbor of another class")
        lines.append(f"recall at 1 {100 * recall:.1f} %")
    if measurement.rejection is not None:
        curve, _ = measurement.rejection
        half = curve.accuracy[len(curve.accuracy) // 2]
        lines.append(f"linear probe {100 * curve.accuracy[-1]:.1f} %, {100 * half:.1f} % on the surest half")
    for each in measurement.degradations:
        rises = "rises at every step" if each.monotone else "does not rise at every step"
        lines.append(f"{each.kind}: {rises} (Spearman {each.spearman:.2f})")
    return lines


def _probe(
    model: Model,
    vectors: NDArray[np.float32],
    *,
    seed: int,
    dataset: DatasetConfig | None,
    progress: CountProgress | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The classes that a linear probe of training images predicts for vectors [N, D], and all those that it knows."""
    train = open_split(model, "train", dataset=dataset)
    labeled = np.flatnonzero(train.labels >= 0)
    rows = labeled[draw_positions(len(labeled), limit=PROBE_IMAGES, seed=seed)]
    features, _ = embed_with_uncertainty(model, np.asarray(train.images[rows]), progress=progress)
    probe = fit_probe(torch.from_numpy(features), torch.from_numpy(train.labels[rows]), seed=seed)
    predicted: NDArray[np.int64] = probe.predict(torch.from_numpy(vectors)).cpu().numpy()
    return predicted, np.unique(train.labels[rows])


def _degrade(
    model: Model, pixels: NDArray[np.uint8], *, seed: int, progress: CountProgress | None
) -> list[Degradation]:
    images = torch.from_numpy(pixels).float()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    side = images.shape[-1]
    made: Mapping[str, tuple[tuple[float, ...], Any]] = {
        "crop": (CROP_AREAS, lambda area: _center_crop(images, area)),
        "blur": (BLUR_SIGMAS, lambda sigma: _blur(images, sigma * side / 32)),
        "noise": (NOISE_SIGMAS, lambda sigma: images + 255 * sigma * noise),
    }
    found = []
    for kind, (levels, degrade) in made.items():
        columns = []
        for level in levels:
            degraded = degrade(level).round().clamp(0, 255).to(torch.uint8).numpy()
            columns.append(embed_with_uncertainty(model, degraded, progress=progress)[1])
        found.append(Degradation(kind=kind, levels=levels, uncertainty=np.stack(columns, axis=1)))  # type: ignore[arg-type]
    return found


def _center_crop(images: Tensor, area: float) -> Tensor:
    height, width = (max(1, round(side * area**0.5)) for side in images.shape[2:])
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    boxes = torch.tensor([[top, left, height, width]]).expand(len(images), 4)
    return crop_resize(images, boxes, size=images.shape[-1])


def _blur(images: Tensor, sigma: float) -> Tensor:
    if sigma == 0:
        return images
    reach = min(int(3 * sigma + 1), min(images.shape[2:]) - 1)
    return gaussian_blur(images, torch.full((len(images),), sigma), kernel_size=2 * reach + 1)


def _summary(values: NDArray[np.float32]) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.05, 0.5, 0.95))
    return {"mean": float(values.mean()), "std": float(values.std()), "p05": float(low), "median": float(median),
            "p95": float(high)}  # fmt: skip

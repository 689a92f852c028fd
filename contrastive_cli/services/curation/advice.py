"""The training that suits the pictures, as a command to type, each of its values with a reason."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from contrastive_cli.core.config import read_preset
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.data.sources import ALWAYS_FORGIVEN
from contrastive_cli.engine.device import choose_device
from contrastive_cli.models.encoders import SMALL_IMAGE as SMALL_STEM
from contrastive_cli.models.encoders import automatic_encoder
from contrastive_cli.services.configuration import REFERENCE_BATCH, find_own_preset
from contrastive_cli.services.curation.measures import Measures
from contrastive_cli.services.curation.pictures import Pictures
from contrastive_cli.views.recipe import RECIPES

SIZES: Final = (32, 48, 64, 96, 128, 160, 192, 224)
LARGEST_ON_A_CPU: Final = 96
LARGER_THAN_MOST: Final = 25  # percentile of the shorter sides: at most a quarter of the pictures is enlarged
METHOD: Final = "simclr"


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What to train with.

    Attributes:
        size: Side in pixels of what the encoder sees.
        encoder: Its name.
        stem: small, imagenet, or of the encoder's own.
        crop_area: Part of a picture that a crop shows, least and most; None where the recipe does not crop.
        batch_size: Pictures in one loss.
        preset: The preset that is taken by itself; None if there is none.
        words: The command.
        reasons: A line each.
    """

    size: int
    encoder: str
    stem: str
    crop_area: tuple[float, float] | None
    batch_size: int
    preset: str | None
    words: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command as it is typed into a shell."""
        return shlex.join(self.words)


def advise(pictures: Pictures, measures: Measures) -> Advice:
    """What suits the pictures on this machine."""
    dataset = pictures.dataset
    spec = find_dataset(dataset.name)
    device = choose_device("auto")
    preset = find_own_preset(dataset=spec.name, method=METHOD, device=device)
    largest = LARGEST_ON_A_CPU if device.type == "cpu" else SIZES[-1]
    quarter = float(np.percentile(measures.shorter, LARGER_THAN_MOST))
    any_size = spec.native_size is None  # a preset for pictures of any size leaves open which one they have
    preset_values = read_preset(preset) if preset else {}
    preset_size = preset_values.get("dataset", {}).get("size") if any_size else None
    if preset_size is not None:
        largest = preset_size
    known_size = spec.native_size == spec.size or (preset is not None and not any_size)
    size = spec.size if known_size else _fitting_size(quarter, largest=largest)
    encoder = automatic_encoder(device.type, size)
    stem = "its own" if encoder == "resnet9" else "small" if size <= SMALL_STEM else "imagenet"
    recipe = spec.recipe_at(size)
    crops = RECIPES[recipe].crop_probability > 0
    least, most = preset_values.get("views", {}).get("crop_area", RECIPES[recipe].crop_area)
    crop_area = (least, most) if crops else None
    trained = [split for split in pictures.split if split == spec.pretrain_split] or list(pictures.split)
    batch = preset_values.get("train", {}).get("batch_size", min(REFERENCE_BATCH, max(2, len(trained) // 2)))
    words = ["clr", "pretrain", "--dataset", dataset.name]
    reasons = []
    if preset:
        reasons.append(f"preset {preset}: taken by itself for {dataset.name}; it sets what is not below")
    if dataset.data_dir is not None:
        words += ["--data-dir", str(dataset.data_dir)]
    if dataset.labels is not None:
        words += ["--labels", str(dataset.labels)]
    if dataset.unlabeled:
        words.append("--unlabeled")
    if dataset.layout != "auto":
        words += ["--layout", dataset.layout]
    share = _worst_share(pictures, measures)
    if share is not None:
        words += ["--max-bad", f"{min(1.0, share + 0.005):.2f}"]
        reasons.append(f"--max-bad: {len(measures.bad)} files cannot be read; repair or remove them, and leave it out")
    if preset and any_size and size != preset_size:
        words += ["--set", f"dataset.size={size}"]
    if not preset:
        words += ["--method", METHOD, "--encoder", encoder]
        words += ["--set", f"dataset.size={size}", "--set", f"views.recipe={recipe}"]
        if stem != "its own":
            words += ["--set", f"encoder.stem={stem}"]
        if crop_area is not None:
            words += ["--set", f"views.crop_area=[{crop_area[0]:g}, {crop_area[1]:g}]"]
    reasons += _reasons(
        size, encoder, stem, crop_area, batch, recipe, measures, device=device.type, images=len(trained)
    )
    return Advice(
        size=size,
        encoder=encoder,
        stem=stem,
        crop_area=crop_area,
        batch_size=batch,
        preset=preset,
        words=tuple(words),
        reasons=tuple(reasons),
    )


def _worst_share(pictures: Pictures, measures: Measures) -> float | None:
    """The largest part of a split that cannot be read; None where that many are passed over anyway."""
    totals = Counter(pictures.split)
    bad = Counter(pictures.split[row] for row, _ in measures.bad)
    many = [count / totals[split] for split, count in bad.items() if count > max(ALWAYS_FORGIVEN, 0.01 * totals[split])]
    return max(many, default=None)


def _fitting_size(quarter: float, *, largest: int) -> int:
    """The largest of `SIZES` that is no larger than three quarters of the pictures, nor than the machine can take."""
    return max((size for size in SIZES if size <= min(quarter, largest)), default=SIZES[0])


def _reasons(
    size: int,
    encoder: str,
    stem: str,
    crop_area: tuple[float, float] | None,
    batch: int,
    recipe: str,
    measures: Measures,
    *,
    device: str,
    images: int,
) -> list[str]:
    shorter = measures.shorter
    median = int(np.median(shorter))
    smaller = 100 * float((shorter < size).mean())
    reasons = [f"size {size}: shorter sides have {median} px in the median, {smaller:.0f} % less than {size}"]
    if size == LARGEST_ON_A_CPU and median > size and device == "cpu":
        reasons[-1] += "; more is slow without a GPU"
    reasons.append(
        f"encoder {encoder}" + ("" if stem == "its own" else f", stem {stem}") + f": for {size} px on {device}"
    )
    if crop_area is not None:
        small = "small pictures do not bear smaller crops" if crop_area[0] >= 0.2 else "as for photos"
        reasons.append(f"crops of {100 * crop_area[0]:.0f} to {100 * crop_area[1]:.0f} % of the area: {small}")
    else:
        reasons.append(f"views {recipe}: without crops")
    reasons.append(f"batch {batch}: of {images:,} pictures to train on")
    return reasons

"""The cosine from which two images are called the same, kept in a run: for a false-accept rate, a layer and an average.

It is taken from verified pairs, or, where the run's images have labels, from random pairs of different classes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from contrastive_cli.core.errors import ClrError, DataError
from contrastive_cli.core.files import write_json
from contrastive_cli.core.percent import rounded_percent
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.comparison import Comparison
from contrastive_cli.services.inference.model import Model
from contrastive_cli.services.inference.similarity import reference_pairs

FEWEST_STEPS: Final = 1000  # of the quantiles of random pairs: a smaller rate cannot be read off them
MOST_BYTES: Final = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """From where on two images are the same.

    Attributes:
        cosine: At or above it they are.
        false_accept_rate: The part of different pairs that is called the same.
        source: What pairs it was taken from, in words.
    """

    cosine: float
    false_accept_rate: float
    source: str

    def __str__(self) -> str:
        rate = rounded_percent(self.false_accept_rate)
        return f"{self.cosine:.4f}, at which {rate} of different pairs are called the same ({self.source})"


def keep_threshold(model: Model, how: Comparison, threshold: Threshold) -> None:
    """Keep it in the run, as the one that is used from now on; a run that is read-only is left as it is."""
    file = _file(model, how)
    value = {
        "checkpoint": model.checkpoint,
        "false_accept_rate": threshold.false_accept_rate,
        "threshold": threshold.cosine,
        "source": threshold.source,
    }
    try:
        write_json(file, value)
        register_artifact(model.run, file, kind="evaluation")
    except ClrError:
        pass


def find_threshold(
    model: Model, how: Comparison, *, false_accept_rate: float | None, dataset: DatasetConfig | None = None
) -> Threshold | None:
    """The threshold that the run keeps, or for another rate one of its labels, which is then kept.

    Returns:
        None where no rate is asked for and none is kept.

    Raises:
        DataError: If a rate is asked for and nothing in the run tells it.
    """
    kept = _kept(model, how)
    if false_accept_rate is None or (kept is not None and math.isclose(kept.false_accept_rate, false_accept_rate)):
        return kept
    found = _of_labels(model, how, false_accept_rate, dataset)
    keep_threshold(model, how, found)
    return found


def _of_labels(model: Model, how: Comparison, rate: float, dataset: DatasetConfig | None) -> Threshold:
    way_out = "verify pairs with clr similarity --pairs pairs.csv --far RATE, which keeps the threshold in the run"
    try:
        split, quantiles = reference_pairs(model, how, dataset=dataset)
    except DataError as error:
        raise DataError(f"no pairs say from where on images are the same: {error.message}", hint=way_out) from None
    different = quantiles.get("different")
    if different is None:
        raise DataError(
            f"the images of {model.run.name} have no labels, so no pair is known to be different", hint=way_out
        )
    if rate * FEWEST_STEPS < 1:
        raise DataError(
            f"random pairs tell no false-accept rate below {1 / FEWEST_STEPS:g} (asked: {rate:g})", hint=way_out
        )
    cosine = float(np.interp(1 - rate, np.linspace(0, 1, len(different)), different))
    return Threshold(cosine=cosine, false_accept_rate=rate, source=f"random pairs of {split} images with labels")


def _file(model: Model, how: Comparison) -> Path:
    return model.run.path / "eval" / f"threshold-{how.name}.json"


def _kept(model: Model, how: Comparison) -> Threshold | None:
    """What the file of the run says, if it is of these weights and whole."""
    file = _file(model, how)
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            return None
        kept: Any = json.loads(file.read_bytes())
        if kept["checkpoint"] != model.checkpoint:
            return None
        found = Threshold(
            cosine=float(kept["threshold"]),
            false_accept_rate=float(kept["false_accept_rate"]),
            source=str(kept["source"])[:200],
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return found if math.isfinite(found.cosine) and 0 < found.false_accept_rate < 1 else None

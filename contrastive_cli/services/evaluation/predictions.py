"""The classes that a head predicted for the test images, kept in the run: which are mistaken for which, how surely."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.runs import Run
from contrastive_cli.services.artifacts import write_result

MAX_BYTES: Final = 200_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """What one head said of the N labeled images of a split.

    Attributes:
        name: Of the images, as in the names of the other results.
        checkpoint: The sha256 of the checkpoint that was measured.
        head: linear, or finetuned.
        labels: How many labels it was fitted with.
        rows: N positions in the split.
        targets: N classes.
        predicted: N classes.
        confidence: N probabilities of what was predicted, in [0, 1]; None where the head has none.
    """

    name: str
    checkpoint: str
    dataset: str
    split: str
    fingerprint: str
    head: str
    labels: int
    classes: tuple[str, ...]
    rows: tuple[int, ...]
    targets: tuple[int, ...]
    predicted: tuple[int, ...]
    confidence: tuple[float, ...] | None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[N], whether the class is right."""
        right: NDArray[np.bool_] = np.asarray(self.predicted) == np.asarray(self.targets)
        return right

    def confusion(self) -> NDArray[np.int64]:
        """[C, C] images by class and predicted class, of the classes that are named or occur."""
        count = max(len(self.classes), 1 + max(*self.targets, *self.predicted))
        matrix = np.zeros((count, count), np.int64)
        np.add.at(matrix, (np.asarray(self.targets), np.asarray(self.predicted)), 1)
        return matrix

    def class_name(self, label: int) -> str:
        """The name of a class; its number if it has none."""
        return self.classes[label] if label < len(self.classes) else str(label)


def save_predictions(run: Run, predictions: Predictions) -> Path:
    """Write `eval/predictions-<name>.json` into the run."""
    return write_result(run, f"predictions-{predictions.name}", asdict(predictions))


def read_predictions(run: Run) -> list[Predictions]:
    """What the run holds, its own dataset first; files that are something else are passed over."""
    own = run.manifest().dataset.name
    found = []
    for file in sorted((run.path / "eval").glob("predictions-*.json")):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
            if file.stat().st_size <= MAX_BYTES:
                found.append(_checked(json.loads(file.read_bytes())))
    return sorted(found, key=lambda one: (one.dataset != own, one.name))


def _checked(value: dict[str, Any]) -> Predictions:
    """Raises ValueError, LookupError or TypeError where it is not what was written."""
    targets, predicted, rows = (tuple(map(int, value[key])) for key in ("targets", "predicted", "rows"))
    confidence = None if value["confidence"] is None else tuple(map(float, value["confidence"]))
    classes = tuple(map(str, value["classes"]))
    limit = max(len(classes), 10_000)
    fits = 0 < len(targets) == len(predicted) == len(rows) == len(confidence or targets)
    if not fits or not all(0 <= label < limit for label in (*targets, *predicted)) or min(rows) < 0:
        raise ValueError("not predictions")
    if confidence is not None and not all(0 <= one <= 1.0001 for one in confidence):
        raise ValueError("not probabilities")
    texts = {key: str(value[key]) for key in ("name", "checkpoint", "dataset", "split", "fingerprint", "head")}
    return Predictions(
        **texts,
        labels=int(value["labels"]),
        classes=classes,
        rows=rows,
        targets=targets,
        predicted=predicted,
        confidence=confidence,
    )

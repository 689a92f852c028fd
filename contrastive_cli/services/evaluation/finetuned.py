"""The accuracy of a finetuned run on the test split. `clr finetune` ends here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import find_dataset
from contrastive_cli.embeddings.probes.class_shares import balanced_accuracy, largest_share
from contrastive_cli.embeddings.probes.label_subsets import confidence_interval
from contrastive_cli.services.artifacts import indices_sha256, write_result
from contrastive_cli.services.evaluation.predictions import Predictions, save_predictions
from contrastive_cli.services.evaluation.rows import note_missing_classes
from contrastive_cli.services.inference.classes import predict_classes
from contrastive_cli.services.inference.model import Model, load_model
from contrastive_cli.services.inference.splits import open_split, open_test_split
from contrastive_cli.services.training.batches import labeled_subset


@dataclass(frozen=True, kw_only=True, slots=True)
class Finetuned:
    """Accuracy in [0, 1] of a finetuned run on the test split, Wilson's 95 % interval, and what it was measured on.

    `largest_class` is the share of the largest class in test, `balanced_accuracy` the mean over its classes, None where
    they are equally large.
    """

    accuracy: float
    ci95: tuple[float, float]
    dataset: str
    test_split: str
    test_images: int
    largest_class: float
    balanced_accuracy: float | None
    label_fraction: float
    labels: int
    train_split: str
    train_indices: list[int]
    train_indices_sha256: str
    fingerprints: list[str]
    parent: dict[str, str] | None
    checkpoint: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json` and the result file."""
        return asdict(self)


def evaluate_finetuned(run: Run, *, device: str, progress: CountProgress | None = None) -> tuple[Finetuned, Path]:
    """Classify the test split once, and write `eval/finetune-<dataset>.json` with the images that were trained on."""
    model = load_model(run, device=device)
    split = find_dataset(model.config.dataset.name).pretrain_split
    train, test = open_split(model, split), open_test_split(model)
    note_missing_classes(train, test)
    known = np.flatnonzero(test.labels >= 0)
    predicted = predict_classes(
        model.method,
        test.images,
        preprocessing=model.preprocessing,
        device=model.device,
        precision=model.precision,
        progress=progress,
    )
    targets = torch.from_numpy(test.labels[known])
    correct = int((predicted[known] == test.labels[known]).sum())
    subset = labeled_subset(model.config, train)
    indices = list(range(train.num_samples)) if subset is None else subset.tolist()
    parent = model.manifest.parent
    result = Finetuned(
        accuracy=correct / len(known),
        ci95=confidence_interval(correct, len(known)),
        dataset=test.name,
        test_split=test.split,
        test_images=len(known),
        largest_class=largest_share(targets),
        balanced_accuracy=balanced_accuracy(targets, [torch.from_numpy(predicted[known])]),
        label_fraction=model.config.train.label_fraction,
        labels=len(indices),
        train_split=train.split,
        train_indices=indices,
        train_indices_sha256=indices_sha256(np.array(indices)),
        fingerprints=[train.fingerprint, test.fingerprint],
        parent=None if parent is None else parent.model_dump(),
        checkpoint=model.checkpoint,
    )
    save_predictions(run, _predictions(test, known, predicted[known], model=model, labels=len(indices)))
    return result, write_result(run, f"finetune-{test.name}", result.to_dict())


def _predictions(
    test: ImageSet, known: NDArray[np.int64], predicted: NDArray[np.int64], *, model: Model, labels: int
) -> Predictions:
    return Predictions(
        name=f"finetune-{test.name}",
        checkpoint=model.checkpoint,
        dataset=test.name,
        split=test.split,
        fingerprint=test.fingerprint,
        head="finetuned",
        labels=labels,
        classes=test.classes,
        rows=tuple(known.tolist()),
        targets=tuple(test.labels[known].tolist()),
        predicted=tuple(predicted.tolist()),
        confidence=None,
    )

"""Linear evaluation: what a linear head or a kNN vote reads off frozen features, beside the baselines.

`clr linear-eval` reaches this module. Penalties are chosen on a split of train; the test split is used once.
The encoder's weights are hashed before and after, so a frozen encoder is proved, not promised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError, TrainingError, UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.embeddings.knn import knn_vote
from contrastive_cli.embeddings.label_split import confidence_interval, label_subset, mean_interval
from contrastive_cli.embeddings.probe import fit_probe
from contrastive_cli.services.configuration import DatasetConfig
from contrastive_cli.services.embedding import Model, embed_pixels, open_split, random_model
from contrastive_cli.services.records import write_result

HEADS = ("linear", "knn")
BASELINES = ("random", "pixels")
KNN_NEIGHBORS = 20
PIXEL_SIZE = 32
PIXEL_CHUNK = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table: accuracy in [0, 1] on the test split, with a 95 % interval.

    The interval is over the seeds where there are several, else Wilson's for the test images.
    """

    features: str
    head: Literal["linear", "knn"]
    label_fraction: float
    accuracy: float
    ci95: tuple[float, float]
    seeds: int
    labels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The table, and what it was measured on."""

    rows: tuple[Row, ...]
    dataset: str
    train_images: int
    test_images: int
    encoder_sha256: str
    fingerprints: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json` and the result file."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Frozen features of the labelled train and test images."""

    name: str
    train: torch.Tensor
    test: torch.Tensor


def linear_eval(
    model: Model,
    *,
    heads: Sequence[str],
    fractions: Sequence[float],
    baselines: Sequence[str],
    seeds: int,
    dataset: DatasetConfig | None = None,
    progress: CountProgress | None = None,
) -> Iterator[Row | Evaluation]:
    """Yield each row as it is measured, and the whole evaluation at the end.

    Raises:
        UsageError: On unknown heads or baselines, fractions outside (0, 1].
        DataError: If a split has no labels.
        TrainingError: If the encoder's weights changed.
    """
    _check(heads=heads, fractions=fractions, baselines=baselines, seeds=seeds)
    train = open_split(model, "train", dataset=dataset)
    test = open_split(model, "test", dataset=dataset)
    for images in (train, test):
        if not images.has_labels:
            raise DataError(
                f"split {images.split} of {images.name} has no labels, so nothing can be evaluated",
                hint="put the images of each class in a folder of their own",
            )
    if not np.isin(test.labels[test.labels >= 0], train.labels).any():
        raise DataError(
            f"no class of the test split of {test.name} occurs in train, so no head can name it",
            hint="`clr similarity --pairs` evaluates by pairs; `clr datasets NAME --save-pairs FILE` makes them",
        )
    _refuse_moved_split(model, train, dataset)
    before = weights_sha256(model)
    rows = []
    train_labels, test_labels = torch.from_numpy(train.labels), torch.from_numpy(test.labels)
    for features in _features(model, train, test, baselines=baselines, progress=progress):
        for fraction in fractions:
            for head in heads:
                row = _measure(
                    features,
                    train_labels,
                    test_labels,
                    head=head,
                    fraction=fraction,
                    seeds=1 if fraction == 1 else seeds,
                )
                rows.append(row)
                yield row
    if weights_sha256(model) != before:
        raise TrainingError("the encoder changed while it was evaluated; the result is worthless")
    yield Evaluation(
        rows=tuple(rows),
        dataset=train.name,
        train_images=train.num_samples,
        test_images=test.num_samples,
        encoder_sha256=before,
        fingerprints=[train.fingerprint, test.fingerprint],
    )


def save_evaluation(run: Run, evaluation: Evaluation) -> Path:
    """Write the table into the run; rows of earlier calls on the same weights and images stay, unless measured anew."""
    name = f"linear-{evaluation.dataset}"
    rows = {(row["features"], row["head"], row["label_fraction"]): row for row in _earlier_rows(run, name, evaluation)}
    fresh = evaluation.as_json()
    rows |= {(row["features"], row["head"], row["label_fraction"]): row for row in fresh["rows"]}
    return write_result(run, name, {**fresh, "rows": list(rows.values())})


def _earlier_rows(run: Run, name: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    try:
        earlier = json.loads((run.path / "eval" / f"{name}.json").read_bytes())
        same = all(earlier[key] == getattr(evaluation, key) for key in ("encoder_sha256", "fingerprints"))
        return list(earlier["rows"]) if same else []
    except (OSError, ValueError, LookupError, TypeError):
        return []


def weights_sha256(model: Model) -> str:
    """The sha256 of all parameters and buffers, in hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.method.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def parse_fractions(text: str) -> tuple[float, ...]:
    """Read "0.01,0.1,1".

    Raises:
        UsageError: If one is not a number in (0, 1].
    """
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--label-fraction {text!r} is not a list of numbers such as 0.01,0.1,1") from None
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise UsageError(f"--label-fraction {text!r} has a number outside (0, 1]")
    return fractions


def _refuse_moved_split(model: Model, train: ImageSet, dataset: DatasetConfig | None) -> None:
    """Images added since would move the drawn split, and images of the training would be tested on."""
    known = model.manifest.dataset
    if dataset in (None, model.config.dataset) and known.split == "train" and known.fingerprint != train.fingerprint:
        raise DataError(
            f"the images of {train.name} are not those that {model.run.name} was trained on, so its test split moved",
            hint="bring the old images back, or evaluate on others with --data-dir",
        )


def _features(
    model: Model,
    train: ImageSet,
    test: ImageSet,
    *,
    baselines: Sequence[str],
    progress: CountProgress | None,
) -> Iterator[Features]:
    def embed(name: str, encoder: Model) -> Features:
        pair = [torch.from_numpy(embed_pixels(encoder, images.images, progress=progress)) for images in (train, test)]
        return Features(name=name, train=pair[0], test=pair[1])

    yield embed("pretrained", model)
    if "random" in baselines:
        yield embed("random", random_model(model, seed=model.manifest.seed))
    if "pixels" in baselines:
        yield Features(name="pixels", train=_flat(train.images), test=_flat(test.images))


def _flat(images: NDArray[np.uint8]) -> torch.Tensor:
    """Raw pixels [N, C*H*W] in [0, 1]; larger images are averaged down to 32 px, or no linear head could hold them."""
    parts = []
    for start in range(0, len(images), PIXEL_CHUNK):
        part = torch.from_numpy(np.array(images[start : start + PIXEL_CHUNK])).float() / 255
        if part.shape[-1] > PIXEL_SIZE:
            part = torch.nn.functional.interpolate(part, size=(PIXEL_SIZE, PIXEL_SIZE), mode="area")
        parts.append(part.flatten(1))
    return torch.cat(parts)


def _measure(
    features: Features,
    train_labels: torch.Tensor,
    test_labels: torch.Tensor,
    *,
    head: str,
    fraction: float,
    seeds: int,
) -> Row:
    accuracies = []
    known = test_labels >= 0
    test, targets = features.test[known], test_labels[known]
    chosen = torch.zeros(0)
    for seed in range(seeds):
        chosen = label_subset(train_labels, fraction=fraction, seed=seed)
        train, labels = features.train[chosen], train_labels[chosen]
        if head == "linear":
            predicted = fit_probe(train, labels, seed=seed).predict(test)
        else:
            predicted = knn_vote(train, labels, queries=test, k=KNN_NEIGHBORS)
        accuracies.append((predicted == targets).float().mean().item())
    correct = round(accuracies[0] * len(targets))
    interval = mean_interval(accuracies) if seeds > 1 else confidence_interval(correct, len(targets))
    return Row(
        features=features.name,
        head="linear" if head == "linear" else "knn",
        label_fraction=fraction,
        accuracy=sum(accuracies) / len(accuracies),
        ci95=(max(0.0, float(interval[0])), min(1.0, float(interval[1]))),
        seeds=seeds,
        labels=len(chosen),
    )


def _check(*, heads: Sequence[str], fractions: Sequence[float], baselines: Sequence[str], seeds: int) -> None:
    known: Mapping[str, Sequence[str]] = {"--head": HEADS, "--baseline": BASELINES}
    for option, given in (("--head", heads), ("--baseline", baselines)):
        for name in given:
            if name not in known[option]:
                raise UsageError(f"{option} {name!r} is unknown; known are {', '.join(known[option])}")
    if not heads:
        raise UsageError(f"--head needs at least one of {', '.join(HEADS)}")
    if not fractions:
        raise UsageError("--label-fraction needs at least one number")
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1 (given: {seeds})")

"""Linear evaluation: what a linear head, an MLP or a kNN vote reads off frozen features, beside the baselines.

`clr linear-eval` reaches this module. Penalties are chosen on a split of train; the test split is used once.
The encoder's weights are hashed before and after, so a frozen encoder is proved, not promised.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from contrastive_cli.core.choices import SpaceKind
from contrastive_cli.core.errors import TrainingError, UsageError
from contrastive_cli.core.notes import note
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.embeddings.probes.knn_vote import knn_vote
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.embeddings.probes.mlp_probe import fit_mlp
from contrastive_cli.models.weights.loading import state_sha256
from contrastive_cli.services.artifacts import indices_sha256, write_result, write_subsets
from contrastive_cli.services.evaluation.features import Features, frozen_features
from contrastive_cli.services.evaluation.predictions import Predictions
from contrastive_cli.services.evaluation.rows import Row, Splits, make_row
from contrastive_cli.services.inference.model import Model

HEADS = ("linear", "mlp", "knn")
BASELINES = ("random", "supervised", "pixels", "start")
KNN_NEIGHBORS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSubset:
    """A subset of the labeled training images: its part of all labels, its seed, how many, and their sha256."""

    label_fraction: float
    seed: int
    labels: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearEvaluation:
    """The table, and what it was measured on.

    Attributes:
        name: Of the files: the dataset's, and with a part of the fingerprint where the images are not the run's own.
        checkpoint: The sha256 of the checkpoint that was measured.
        test_split: The split that is counted as test.
        test_images: Those with a label, which are counted.
    """

    name: str
    checkpoint: str
    rows: tuple[Row, ...]
    dataset: str
    train_images: int
    test_split: str
    test_images: int
    encoder_sha256: str
    fingerprints: list[str]
    subsets: tuple[LabelSubset, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json` and the result file."""
        return asdict(self)


def frozen_rows(
    model: Model,
    splits: Splits,
    *,
    heads: Sequence[str],
    fractions: Sequence[float],
    baselines: Sequence[str],
    seeds: int,
    kind: SpaceKind | None = None,
    crops: int = 1,
    kept: list[Predictions] | None = None,
    progress: CountProgress | None = None,
) -> Iterator[Row]:
    """Measure every head on the frozen features of the run and of its baselines, and yield each row as it is there.

    The features of encoders are measured raw and in the space of the run, or in one of the two by `kind`; the MLP head,
    which scales them itself, raw only. `crops` is the number of pictures of an image that its features are the mean of.
    What the linear head with the most labels says of every test image is put into `kept`, where that is given.

    Raises:
        TrainingError: If the encoder's weights changed.
    """
    before = weights_sha256(model)
    for features in frozen_features(
        model, splits, heads=heads, baselines=baselines, kind=kind, crops=crops, progress=progress
    ):
        for fraction in fractions:
            for head in features.heads:
                keeps = (features.name, head, fraction) == ("pretrained", "linear", max(fractions))
                yield _measure(
                    model, features, splits, head=head, fraction=fraction, seeds=seeds,
                    kept=kept if keeps else None, progress=progress,
                )  # fmt: skip
    if weights_sha256(model) != before:
        raise TrainingError("the encoder changed while it was evaluated; the result is worthless")


def summarize_evaluation(
    model: Model, splits: Splits, *, rows: Sequence[Row], fractions: Sequence[float], seeds: int
) -> LinearEvaluation:
    """The rows with what they were measured on, and the sha256 of every list of labeled images that was used."""
    return LinearEvaluation(
        name=result_name(splits),
        checkpoint=model.checkpoint,
        rows=tuple(rows),
        dataset=splits.train.name,
        train_images=splits.train.num_samples,
        test_split=splits.test.split,
        test_images=int(splits.tested.sum()),
        encoder_sha256=weights_sha256(model),
        fingerprints=[splits.train.fingerprint, splits.test.fingerprint],
        subsets=tuple(
            LabelSubset(label_fraction=fraction, seed=seed, labels=len(chosen), sha256=indices_sha256(chosen.numpy()))
            for fraction in fractions
            for seed, chosen in enumerate(splits.subsets(fraction, seeds=seeds))
        ),
    )


def save_evaluation(run: Run, evaluation: LinearEvaluation, splits: Splits) -> Path:
    """Write the table into the run; what earlier calls measured on the same weights and images stays, unless anew.

    The positions of the labeled images go beside it, to `eval/linear-<name>-images.npz`.
    """
    name = f"linear-{evaluation.name}"
    earlier, fresh = _earlier(run, name, evaluation), evaluation.to_dict()
    rows = {(row["features"], row["head"], row["label_fraction"]): row for row in [*earlier["rows"], *fresh["rows"]]}
    subsets = {(one["label_fraction"], one["seed"]): one for one in [*earlier["subsets"], *fresh["subsets"]]}
    seeds = Counter(one["label_fraction"] for one in fresh["subsets"])
    arrays = {
        (fraction, seed): chosen.numpy()
        for fraction, count in seeds.items()
        for seed, chosen in enumerate(splits.subsets(fraction, seeds=count))
    }
    write_subsets(run, f"{name}-images", arrays, keep=bool(earlier["rows"]))
    return write_result(run, name, {**fresh, "rows": list(rows.values()), "subsets": list(subsets.values())})


def _earlier(run: Run, name: str, evaluation: LinearEvaluation) -> dict[str, list[dict[str, Any]]]:
    try:
        earlier = json.loads((run.path / "eval" / f"{name}.json").read_bytes())
        if all(earlier[key] == getattr(evaluation, key) for key in ("encoder_sha256", "fingerprints")):
            return {"rows": list(earlier["rows"]), "subsets": list(earlier.get("subsets", []))}
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return {"rows": [], "subsets": []}


def weights_sha256(model: Model) -> str:
    """The sha256 of all parameters and buffers, in hex."""
    return state_sha256(model.method.state_dict())


def distinct_fractions(splits: Splits, fractions: Sequence[float]) -> tuple[float, ...]:
    """Of fractions that stand for the same labels, as where every class gives one, the first; the others are said."""
    kept: dict[str, float] = {}
    for fraction in fractions:
        (chosen,) = splits.subsets(fraction, seeds=1)
        first = kept.setdefault(indices_sha256(chosen.numpy()), fraction)
        if first != fraction:
            note(f"the label fraction {fraction:g} is left out: it gives the {len(chosen)} labels of {first:g}")
    return tuple(kept.values())


def parse_fractions(text: str) -> tuple[float, ...]:
    """Read "0.01,0.1,1"; a number that is given twice counts once.

    Raises:
        UsageError: If one is not a number in (0, 1].
    """
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--label-fraction {text!r} is not a list of numbers such as 0.01,0.1,1") from None
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise UsageError(f"--label-fraction {text!r} has a number outside (0, 1]")
    return tuple(dict.fromkeys(fractions))


def _measure(
    model: Model,
    features: Features,
    splits: Splits,
    *,
    head: str,
    fraction: float,
    seeds: int,
    kept: list[Predictions] | None,
    progress: CountProgress | None,
) -> Row:
    train_labels = torch.from_numpy(splits.train.labels)
    test = features.test[splits.tested]
    predictions = []
    subsets = splits.subsets(fraction, seeds=seeds)
    for seed, chosen in enumerate(subsets):
        train, labels = features.train[chosen], train_labels[chosen]
        if head == "linear":
            chances = fit_probe(train, labels, seed=seed).heads.logits(test)[0].softmax(1)
            predictions.append(chances.argmax(1))
            if kept is not None and seed == 0:
                kept.append(_predictions(model, splits, chances, labels=len(chosen)))
        elif head == "mlp":
            predictions.append(fit_mlp(train, labels, seed=seed, progress=progress).predict(test))
        else:
            predictions.append(knn_vote(train, labels, queries=test, k=KNN_NEIGHBORS))
    return make_row(
        splits,
        features=features.name,
        head=head,
        fraction=fraction,
        predictions=predictions,
        labels=len(subsets[0]),
    )


def _predictions(model: Model, splits: Splits, chances: torch.Tensor, *, labels: int) -> Predictions:
    """What the linear head says, from its probabilities [N, C] of the tested images."""
    test = splits.test
    best = chances.max(1)
    return Predictions(
        name=result_name(splits),
        checkpoint=model.checkpoint,
        dataset=test.name,
        split=test.split,
        fingerprint=test.fingerprint,
        head="linear",
        labels=labels,
        classes=test.classes,
        rows=tuple(splits.tested.nonzero().flatten().tolist()),
        targets=tuple(splits.test_labels.tolist()),
        predicted=tuple(best.indices.tolist()),
        confidence=tuple(round(float(one), 5) for one in best.values),
    )


def result_name(splits: Splits) -> str:
    """Of the result files: the dataset's, and with a part of the fingerprint where the images are not the run's own."""
    dataset, fingerprint = splits.train.name, splits.train.fingerprint
    suffix = "" if splits.test.split == "test" else f"-{splits.test.split}"
    return (dataset if splits.own else f"{dataset}-{fingerprint[:8]}") + suffix


def check_choice(*, heads: Sequence[str], fractions: Sequence[float], baselines: Sequence[str], seeds: int) -> None:
    """Refuse unknown names before anything is opened.

    Raises:
        UsageError: On unknown or missing heads, fractions, baselines, and less than one seed.
    """
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

"""Similarity of images, and where it stands among random pairs. `clr similarity` reaches this module."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import ClrError, DataError
from contrastive_cli.core.files import write_json
from contrastive_cli.core.notes import note
from contrastive_cli.core.runs import Run
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import known_dataset
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.embeddings.similarity import cosine_matrix, percentile_of, random_pair_similarities
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.comparison import Comparison, choose_comparison, compared_vectors
from contrastive_cli.services.inference.image_files import decode_all
from contrastive_cli.services.inference.measured_spaces import describe_spaces
from contrastive_cli.services.inference.model import Model, load_model
from contrastive_cli.services.inference.spaces import record_spaces, write_spaces
from contrastive_cli.services.inference.splits import open_split

REFERENCE_IMAGES = 1000
REFERENCE_PAIRS = 20_000
QUANTILES = 1001
BY_PAIRS = "pairs of pictures of people who were not trained on"


@dataclass(frozen=True, kw_only=True, slots=True)
class Similarities:
    """Cosines [N, N] of N images, and their percentiles among pairs of other images, by kind of pair.

    The kinds are `all`, and with labels `same` and `different` class; empty where the dataset's images are absent.
    `reference` is the split that the pairs are of: people who were not trained on where the dataset has them; `missing`
    says why there are none.
    """

    paths: tuple[str, ...]
    cosines: NDArray[np.float64]
    percentiles: Mapping[str, NDArray[np.float64]]
    reference: str
    how: Comparison
    missing: str = ""


def similarity(
    model: Model, paths: Sequence[Path], *, how: Comparison, dataset: DatasetConfig | None = None
) -> Similarities:
    """Cosine similarities of the embeddings of image files.

    Raises:
        DataError: If one cannot be read; each is needed.
    """
    pixels, _, bad = decode_all(model, paths)
    if bad:
        raise bad[0]
    if len(paths) < 2:
        raise DataError(f"similarity compares two images or more (given: {len(paths)})")
    cosines = cosine_matrix(compared_vectors(model, pixels, how))
    missing, split = "", ""
    quantiles: dict[str, NDArray[np.float64]] = {}
    try:
        split, quantiles = reference_pairs(model, how, dataset=dataset)
        register_artifact(model.run, _pairs_file(model, how), kind="evaluation")
    except DataError as error:
        missing = error.message
    percentiles = {kind: _percentiles(cosines, sample) for kind, sample in quantiles.items()}
    names = tuple(map(str, paths))
    return Similarities(
        paths=names, cosines=cosines, percentiles=percentiles, reference=split, how=how, missing=missing
    )


def record_comparison(run: Run, *, device: str) -> Comparison:
    """Choose how images are compared at the end of a training, which holds the run, and leave the figures in it.

    So do the space of the embeddings and the yardstick of random pairs: the run may be moved to where its images are
    not.
    """
    model = load_model(run, device=device)
    spaces = record_spaces(model)
    chosen, areas = choose_comparison(model, spaces)
    if areas:
        file = run.path / "eval" / "similarity-layer.json"
        facts = {"layer": chosen.layer, "average": chosen.average, "space": chosen.space}
        write_json(file, {**facts, "validation_auc": areas})
        run.add_artifact(file, kind="evaluation")
        if spaces is not None:
            spaces = replace(spaces, layer=chosen.layer, kind=chosen.space, chosen_by=BY_PAIRS)
    if spaces is not None:
        write_spaces(run, spaces)
        model = replace(model, manifest=run.manifest())
        for line in describe_spaces(spaces):
            note(line)
    if hasattr(model.method, "encoder"):  # without one, embedding takes long
        with contextlib.suppress(DataError):  # the images went away meanwhile, which must not fail a training
            reference_pairs(model, chosen)
            run.add_artifact(_pairs_file(model, chosen), kind="evaluation")
    return chosen


def reference_pairs(
    model: Model, how: Comparison, *, dataset: DatasetConfig | None = None
) -> tuple[str, dict[str, NDArray[np.float64]]]:
    """Quantiles of the cosine of random pairs of a split, made once for a checkpoint and a comparison, kept in the run.

    The split is the dataset's identity split where it has one, else the one that was trained on.

    Args:
        model: The trained model.
        how: How images are compared.
        dataset: Where the images are, if not where they were.

    Raises:
        DataError: If there are none yet, and the images cannot be had or are not those of the training.
    """
    kept = _kept_pairs(model, how)
    if kept is not None:
        return kept
    images = _reference_images(model, dataset)
    chosen = draw_positions(images.num_samples, limit=REFERENCE_IMAGES, seed=0)
    vectors = compared_vectors(model, np.asarray(images.images[chosen]), how)
    labels = images.labels[chosen] if images.has_labels else None
    pairs = random_pair_similarities(vectors, num_pairs=REFERENCE_PAIRS, seed=0, labels=labels)
    samples = {"all": pairs.all_pairs, "same": pairs.same_class, "different": pairs.different_class}
    steps = np.linspace(0, 1, QUANTILES)
    quantiles = {
        kind: np.quantile(sample, steps) for kind, sample in samples.items() if sample is not None and len(sample)
    }
    try:
        listed = {kind: values.tolist() for kind, values in quantiles.items()}
        write_json(
            _pairs_file(model, how), {"checkpoint": model.checkpoint, "split": images.split, "quantiles": listed}
        )
    except ClrError:
        pass  # a read-only run can still be used
    return images.split, quantiles


def _pairs_file(model: Model, how: Comparison) -> Path:
    return model.run.path / "eval" / f"pair-similarities-{how.name}.json"


def _kept_pairs(model: Model, how: Comparison) -> tuple[str, dict[str, NDArray[np.float64]]] | None:
    file = _pairs_file(model, how)
    try:
        kept: Any = json.loads(file.read_bytes()) if file.is_file() else {"checkpoint": None}
        if kept["checkpoint"] != model.checkpoint:
            return None
        quantiles = {str(kind): np.array(values, dtype=np.float64) for kind, values in kept["quantiles"].items()}
        whole = all(values.shape == (QUANTILES,) and np.isfinite(values).all() for values in quantiles.values())
        return (str(kept["split"]), quantiles) if whole else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # damaged: made again
        return None


def _reference_images(model: Model, dataset: DatasetConfig | None) -> ImageSet:
    if model.manifest.status == "imported":
        raise DataError("an imported encoder has no pairs of training images to compare with")
    spec = known_dataset(model.config.dataset.name)
    if spec is None:
        raise DataError(f"the file of the dataset {model.config.dataset.name} was not named by --dataset")
    known, reason = model.manifest.dataset, ""
    for split in (spec.identity_split, spec.pretrain_split):
        if split is None:
            continue
        try:
            images = open_split(model, split, dataset=dataset)
        except DataError as error:
            reason = reason or error.message
            continue
        if images.split == known.split and images.fingerprint != known.fingerprint:
            reason = f"the images of {images.name} are not those that {model.run.name} was trained on"
        elif images.num_samples > 1:
            return images
    raise DataError(reason or f"{model.run.name} was trained on one image")


def _percentiles(cosines: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([[percentile_of(cosine, reference) for cosine in row] for row in cosines])

"""Verification of a run on pairs of images. `clr similarity --pairs` reaches this module."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.files import harmless_cell, write_atomically
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.datasets import DEFAULT_DATA_DIR
from contrastive_cli.data.pairs import Pair, draw_pairs, pairs_csv, read_pairs
from contrastive_cli.embeddings.similarity import paired_cosines
from contrastive_cli.embeddings.verification import Curve, OperatingPoint, Verification, operating_point, verify
from contrastive_cli.services.artifacts import register_artifact, write_result
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.comparison import Comparison, compared_vectors
from contrastive_cli.services.inference.image_files import decode_all
from contrastive_cli.services.inference.model import Model
from contrastive_cli.services.inference.thresholds import Threshold, keep_threshold
from contrastive_cli.services.opening import open_images


@dataclass(frozen=True, kw_only=True, slots=True)
class PairResult:
    """The verdict on a list of pairs, and the files that were written."""

    verification: Verification
    how: Comparison
    images: int
    figure: Path
    curve: Path
    scores: Path
    rows: tuple[tuple[str, str, int, float], ...] = ()  # path_a, path_b, same, similarity
    point: OperatingPoint | None = None  # of the false-accept rate that was asked for

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json` and the result file."""
        return {
            **asdict(self.verification),
            **asdict(self.how),
            "images": self.images,
            "figure": str(self.figure),
            "curve": str(self.curve),
            "scores": str(self.scores),
            **({} if self.point is None else {"operating_point": asdict(self.point)}),
        }


def verify_pairs(
    model: Model,
    file: Path,
    *,
    root: Path,
    how: Comparison,
    false_accept_rate: float | None = None,
    progress: CountProgress | None = None,
) -> PairResult:
    """Judge the cosines of a list of pairs; the curve goes into the run as a figure and as CSV.

    So does the threshold of a false-accept rate, which is then used for other images.

    Raises:
        DataError: If the list or an image cannot be read, or there are too few pairs to tell the rate.
    """
    pairs = read_pairs(file, root=root)
    paths = list(dict.fromkeys(path for pair in pairs for path in (pair.first, pair.second)))
    pixels, _, bad = decode_all(model, paths, progress=progress)
    if bad:
        line = next(pair.line for pair in pairs if bad[0].path in (os.fspath(pair.first), os.fspath(pair.second)))
        raise DataError(f"{file}:{line}: {bad[0].message}", path=file)
    vectors = compared_vectors(model, pixels, how)
    number = {path: index for index, path in enumerate(paths)}
    positions = np.array([(number[pair.first], number[pair.second]) for pair in pairs])
    scores = paired_cosines(vectors, positions)
    same = np.array([pair.same for pair in pairs])
    verification, curve = verify(scores, same)
    point = None
    if false_accept_rate is not None:
        point = operating_point(scores, same, false_accept_rate=false_accept_rate)
        source = f"{int((~same).sum()):,} different pairs of {file.name}"
        keep_threshold(
            model, how, Threshold(cosine=point.threshold, false_accept_rate=false_accept_rate, source=source)
        )
    result = _save(
        model, verification, curve, pairs, scores=scores, same=same, how=how, name=file.stem, images=len(paths)
    )
    return replace(result, point=point)


def _save(
    model: Model,
    verification: Verification,
    curve: Curve,
    pairs: list[Pair],
    *,
    scores: NDArray[np.float64],
    same: NDArray[np.bool_],
    how: Comparison,
    name: str,
    images: int,
) -> PairResult:
    from contrastive_cli.viz.verification import verification_figure

    stem = f"verification-{_plain(name)}-{how.name}"
    run = model.run
    result = PairResult(
        verification=verification,
        how=how,
        images=images,
        figure=run.path / "plots" / f"{stem}.png",
        curve=run.path / "eval" / f"{stem}-roc.csv",
        scores=run.path / "eval" / f"{stem}-pairs.csv",
        rows=tuple(
            (str(pair.first), str(pair.second), int(pair.same), float(score))
            for pair, score in zip(pairs, scores, strict=True)
        ),
    )
    verification_figure(
        rates=(curve.false_positive_rate, curve.true_positive_rate),
        scores=scores,
        same=same,
        eer=verification.eer,
        threshold=verification.threshold,
        path=result.figure,
        title=f"{name}: area under the curve {verification.auc:.3f}",
        caption=f"{len(pairs):,} pairs of {images:,} images, {how} of {run.name}",
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["threshold", "false_positive_rate", "true_positive_rate"])
    columns = (curve.thresholds, curve.false_positive_rate, curve.true_positive_rate)
    writer.writerows([f"{value:.6g}" for value in row] for row in zip(*columns, strict=True))
    write_atomically(result.curve, text.getvalue().encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path_a", "path_b", "same", "cosine"])
    for pair, score in zip(pairs, scores, strict=True):
        writer.writerow(
            [harmless_cell(str(pair.first)), harmless_cell(str(pair.second)), int(pair.same), f"{score:.6f}"]
        )
    write_atomically(result.scores, text.getvalue().encode("utf-8", "backslashreplace"))
    write_result(run, stem, {**result.to_dict(), "checkpoint": model.checkpoint})
    register_artifact(run, result.figure, kind="plot")
    for file in (result.curve, result.scores):
        register_artifact(run, file, kind="evaluation")
    return result


def _plain(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in name)


def save_pairs(file: Path, *, dataset: DatasetConfig, split: str, count: int | None, seed: int) -> int:
    """Write pairs of a split, half of them of one class; paths are relative to --data-dir. Returns how many.

    Raises:
        DataError: If the split has no labels, no files, or too few pairs.
    """
    images = open_images(dataset, split=split)
    if not images.has_labels:
        raise DataError(
            f"split {split} of {images.name} has no labels, so no pair is known to be the same{images.why_no_labels}"
        )
    root = dataset.data_dir or DEFAULT_DATA_DIR
    if images.reading is None:
        raise DataError(
            f"the images of {images.name} are no files below {root}, so pairs cannot name them",
            hint="pairs can be drawn of folders of pictures",
        )
    folder = images.reading.root.relative_to(root)
    paths = [(folder / path).as_posix() for path in images.paths]
    positions, same = draw_pairs(images.labels, count=count, seed=seed)
    write_atomically(file, pairs_csv(paths, positions, same))
    return len(same)

"""`clr linear-eval`: what a head reads off the frozen features, beside the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import (
    Crops,
    DataDir,
    DatasetName,
    Device,
    Download,
    EncoderName,
    EncoderSets,
    Json,
    Labels,
    Layout,
    MaxBad,
    Quiet,
    RunName,
    SpaceName,
    TestSplit,
    Weights,
    chosen_run,
)
from contrastive_cli.cli.tracking import tell_trackers
from contrastive_cli.core.percent import rounded_percent

if TYPE_CHECKING:
    from contrastive_cli.services.evaluation.predictions import Predictions
    from contrastive_cli.services.evaluation.rows import Row, Splits
    from contrastive_cli.services.evaluation.supervised_baseline import SupervisedTraining
    from contrastive_cli.services.inference.model import Model


def linear_eval(
    run: RunName = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    set_: EncoderSets = None,
    head: Annotated[str, typer.Option(help="linear, mlp, knn, or several with commas.")] = "linear,knn",
    label_fraction: Annotated[
        str, typer.Option(help="Parts of the training labels, such as 0.01,0.1,1; class-stratified and nested.")
    ] = "1",
    baseline: Annotated[
        str | None,
        typer.Option(
            help="random, pixels, start (the encoder as it came, of a run from --weights), supervised (the encoder "
            "trained from scratch, slow), several with commas, or none; random,pixels and start if not given."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Label subsets to average over, for fractions below 1.")] = 3,
    space: SpaceName = None,
    crops: Crops = 1,
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    download: Download = False,
    max_bad: MaxBad = None,
    labels: Labels = None,
    layout: Layout = None,
    split: TestSplit = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure frozen features on the test split: linear head (L-BFGS, penalty chosen on a split of train) and kNN-20.

    Both see the features raw and whitened, unless --space names one of the two.

    clr linear-eval --label-fraction 0.01,0.1,1

    clr linear-eval --encoder timm/NAME --weights model.safetensors --dataset folder --data-dir photos

    clr linear-eval --head linear,mlp --baseline random,supervised,pixels --label-fraction 0.01,0.1
    """
    output = Output(json=json, quiet=quiet)
    found = chosen_run(run, output, encoder=encoder, weights=weights, sets=set_)
    from contrastive_cli.services.evaluation import linear_eval as probing
    from contrastive_cli.services.evaluation.baselines import refuse_without_start, usual_baselines
    from contrastive_cli.services.evaluation.predictions import save_predictions
    from contrastive_cli.services.evaluation.rows import open_splits
    from contrastive_cli.services.inference.crops import check_crops
    from contrastive_cli.services.inference.model import load_model
    from contrastive_cli.services.inference.splits import other_dataset

    fractions, heads = probing.parse_fractions(label_fraction), _words(head)
    baselines = [] if baseline in (None, "none") else _words(baseline or "")
    probing.check_choice(heads=heads, fractions=fractions, baselines=baselines, seeds=seeds)
    model = load_model(found, device=device)
    baselines = usual_baselines(model) if baseline is None else baselines
    refuse_without_start(model, baselines)
    changed = other_dataset(
        model,
        name=dataset,
        data_dir=data_dir,
        download=download,
        max_bad=max_bad,
        labels=labels,
        layout=layout,
        split=split,
    )
    splits = open_splits(model, dataset=changed)
    fractions = probing.distinct_fractions(splits, fractions)
    trainings = _plan_supervised(model, splits, fractions, seeds, output) if "supervised" in baselines else []
    rows: list[Row] = []
    kept: list[Predictions] = []
    with output.counting("embedding and fitting") as progress:
        for row in probing.frozen_rows(
            model,
            splits,
            heads=heads,
            fractions=fractions,
            baselines=baselines,
            seeds=seeds,
            kind=space,
            crops=check_crops(crops),
            kept=kept,
            progress=progress,
        ):
            rows.append(row)
            output.note(_describe(row))
    if trainings:
        rows += _supervised(model, splits, trainings, output)
    evaluation = probing.summarize_evaluation(model, splits, rows=rows, fractions=fractions, seeds=seeds)
    output.table(
        title=f"{found.name}: accuracy on {evaluation.test_images} {evaluation.test_split} images of "
        f"{evaluation.dataset}",
        columns=["features", "head", "labels", "accuracy", "95 % interval", "seeds", "balanced", "largest class"],
        rows=[_cells(row) for row in rows],
    )
    if json:
        output.result(evaluation.to_dict(), "")
    file = probing.save_evaluation(found, evaluation, splits)
    for predictions in kept:
        save_predictions(found, predictions)
    output.note(f"encoder unchanged (sha256 {evaluation.encoder_sha256[:12]}); written to {file}")
    told = [file]
    if len(set(fractions)) > 1:
        from contrastive_cli.services.figures.figures import plot_labels

        for drawn in plot_labels(found, out=None, name=evaluation.name):
            output.note(f"drawn to {drawn}")
            told.append(drawn)
    tell_trackers(found, told, output)


def _plan_supervised(
    model: Model, splits: Splits, fractions: Sequence[float], seeds: int, output: Output
) -> list[SupervisedTraining]:
    from contrastive_cli.services.evaluation import supervised_baseline as baselines

    trainings = baselines.plan_supervised(model, splits, fractions=fractions, seeds=seeds)
    chosen = len(baselines.CANDIDATES) * len(set(fractions))
    output.note(
        f"the supervised baseline takes {len(trainings) + chosen} trainings, {chosen} of them to choose its optimizer: "
        f"{baselines.total_steps(trainings)} steps of at most {baselines.BATCH} images"
    )
    return trainings


def _supervised(model: Model, splits: Splits, trainings: Sequence[SupervisedTraining], output: Output) -> list[Row]:
    from contrastive_cli.services.evaluation.supervised_baseline import supervised_rows

    rows = []
    with output.counting("training the supervised baseline, steps") as progress:
        for row in supervised_rows(model, splits, trainings=trainings, progress=progress):
            rows.append(row)
            output.note(_describe(row))
    return rows


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _describe(row: Row) -> str:
    name = row.features if row.features == row.head else f"{row.features} {row.head}"
    return f"{name} at {rounded_percent(row.label_share)} of labels: {100 * row.accuracy:.1f} %"


def _cells(row: Row) -> list[str]:
    low, high = row.ci95
    return [
        row.features,
        row.head,
        f"{row.labels} ({rounded_percent(row.label_share)})",
        f"{100 * row.accuracy:.1f} %",
        f"{100 * low:.1f} - {100 * high:.1f}",
        str(row.seeds),
        "-" if row.balanced_accuracy is None else f"{100 * row.balanced_accuracy:.1f} %",
        f"{100 * row.largest_class:.1f} %",
    ]

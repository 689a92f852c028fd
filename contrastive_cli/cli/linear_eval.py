"""`clr linear-eval`: what a head reads off the frozen features, beside the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import DataDir, DatasetName, Device, Download, Json, MaxBad, Quiet, RunName

if TYPE_CHECKING:
    from contrastive_cli.services.probing import Row


def linear_eval(
    run: RunName = None,
    head: Annotated[str, typer.Option(help="linear, knn, or both with a comma.")] = "linear,knn",
    label_fraction: Annotated[
        str, typer.Option(help="Parts of the training labels, such as 0.01,0.1,1; class-stratified and nested.")
    ] = "1",
    baseline: Annotated[str, typer.Option(help="random, pixels, both with a comma, or none.")] = "random,pixels",
    seeds: Annotated[int, typer.Option(help="Label subsets to average over, for fractions below 1.")] = 3,
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    download: Download = False,
    max_bad: MaxBad = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure frozen features on the test split: linear head (L-BFGS, penalty chosen on a split of train) and kNN-20.

    clr linear-eval --label-fraction 0.01,0.1,1
    """
    from contrastive_cli.core.runs import find_run

    found = find_run(run)
    from contrastive_cli.services.embedding import load_model, other_dataset
    from contrastive_cli.services.probing import Evaluation, linear_eval, parse_fractions, save_evaluation

    fractions = parse_fractions(label_fraction)
    output = Output(json=json, quiet=quiet)
    model = load_model(found, device=device)
    rows: list[Row] = []
    evaluation: Evaluation | None = None
    with output.counting("embedding") as progress:
        for item in linear_eval(
            model,
            heads=_words(head),
            fractions=fractions,
            baselines=[] if baseline == "none" else _words(baseline),
            seeds=seeds,
            dataset=other_dataset(model, name=dataset, data_dir=data_dir, download=download, max_bad=max_bad),
            progress=progress,
        ):
            if isinstance(item, Evaluation):
                evaluation = item
            else:
                rows.append(item)
                output.note(_describe(item))
    assert evaluation is not None, "linear_eval ends with the evaluation"
    output.table(
        title=f"{found.name}: accuracy on {evaluation.test_images} test images of {evaluation.dataset}",
        columns=["features", "head", "labels", "accuracy", "95 % interval", "seeds"],
        rows=[_cells(row) for row in rows],
    )
    if json:
        output.result(evaluation.as_json(), "")
    file = save_evaluation(found, evaluation)
    output.note(f"encoder unchanged (sha256 {evaluation.encoder_sha256[:12]}); written to {file}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _describe(row: Row) -> str:
    return f"{row.features} {row.head} at {100 * row.label_fraction:g} % of labels: {100 * row.accuracy:.1f} %"


def _cells(row: Row) -> list[str]:
    low, high = row.ci95
    return [
        row.features,
        row.head,
        f"{row.labels} ({100 * row.label_fraction:g} %)",
        f"{100 * row.accuracy:.1f} %",
        f"{100 * low:.1f} - {100 * high:.1f}",
        str(row.seeds),
    ]

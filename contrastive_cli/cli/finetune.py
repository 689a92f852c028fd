"""`clr finetune`: train a run's encoder on from labels, with a classifier on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import (
    DataDir,
    DatasetName,
    Download,
    EncoderName,
    Json,
    Labels,
    Layout,
    MaxBad,
    Quiet,
    RunName,
    TestSplit,
    Weights,
    chosen_run,
)
from contrastive_cli.cli.processes import PROCESSES_HELP, begun_run, enter_processes, part_processes
from contrastive_cli.cli.tracking import tell_trackers
from contrastive_cli.cli.training import run_session
from contrastive_cli.cli.waiting import waiting
from contrastive_cli.core.choices import AskedPrecision
from contrastive_cli.core.clock import process_start
from contrastive_cli.core.percent import describe_shares, rounded_percent

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run


def finetune(
    run: RunName = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    label_fraction: Annotated[
        float | None,
        typer.Option(help="Part of the training labels, class-stratified; 1 if not given."),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over these labels; 40 and at least 300 steps if not given.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Training time such as 5m instead of --epochs.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate for a batch of 256; 0.2 if not given.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step; 128 or all labels if not given.")] = None,
    precision: Annotated[AskedPrecision | None, typer.Option(help="Number format; auto if not given.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides the labels, the order and the views; 0 if not given.")
    ] = None,
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    download: Download = False,
    max_bad: MaxBad = None,
    labels: Labels = None,
    layout: Layout = None,
    split: TestSplit = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps; auto if not given.")] = None,
    config: Annotated[str | None, typer.Option(help="YAML file, or a preset's name (configs/).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any field, such as optim.weight_decay=1e-4; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; runs/finetune-DATASET-TIME-sSEED.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Rename an existing run away.")] = False,
    processes: Annotated[int | None, typer.Option(min=1, help=PROCESSES_HELP)] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a run's encoder and a new linear classifier on a part of the labels, and classify the test split.

    clr finetune --label-fraction 0.1

    It becomes a run of its own, which `clr pretrain --resume` takes up after an interruption.
    """
    from contrastive_cli.core.config import nested, read_assignments

    began = process_start()
    output = Output(json=json, quiet=quiet)
    flags = {
        "train.label_fraction": label_fraction,
        "train.epochs": epochs,
        "train.budget": budget,
        "train.batch_size": batch_size,
        "train.precision": precision,
        "optim.lr": lr,
        "seed": seed,
        "device": device,
        "dataset.name": dataset,
        "dataset.data_dir": None if data_dir is None else str(data_dir),
        "dataset.download": download or None,
        "dataset.max_bad": max_bad,
        "dataset.layout": layout,
        "dataset.labels": None if labels is None else str(labels),
        "dataset.test_split": split,
    }
    enter_processes(processes)
    if (begun := begun_run()) is not None:
        from contrastive_cli.cli.resuming import go_on

        go_on(begun, {}, config=None, sets=[], output=output, began=began)
        return
    assignments = read_assignments(set_ or [])
    parent = chosen_run(run, output, encoder=encoder, weights=weights)
    from contrastive_cli.services.training.finetuning import finetune_session

    with waiting(output) as work:
        session = finetune_session(
            parent,
            config=config,
            sets=assignments,
            flags=nested({key: value for key, value in flags.items() if value is not None}),
            out=out,
            overwrite=overwrite,
            progress=work.count,
            say=work.say,
            began=began,
        )
    setup = session.setup
    share = setup.num_samples / setup.images.num_samples
    output.note(f"encoder of {parent.name}; {setup.num_samples} labels ({rounded_percent(share)})")
    summary = run_session(session, output)
    if not part_processes():
        return
    measure(session.run, summary, device=str(setup.device), output=output)


def measure(run: Run, summary: Mapping[str, Any], *, device: str, output: Output) -> None:
    """Print how well a finetuned run classifies the test split."""
    from contrastive_cli.services.evaluation.finetuned import evaluate_finetuned

    with output.counting("classifying the test split") as progress:
        found, file = evaluate_finetuned(run, device=device, progress=progress)
    low, high = found.ci95
    text = (
        f"{run.path}\n"
        f"accuracy {100 * found.accuracy:.1f} % (95 % interval {100 * low:.1f} - {100 * high:.1f}) on "
        f"{found.test_images} {found.test_split} images of {found.dataset}, from {found.labels} labels\n"
        f"{describe_shares(found.largest_class, found.balanced_accuracy)}"
    )
    facts = {key: value for key, value in found.to_dict().items() if key != "train_indices"}
    output.result({**summary, **facts, "file": str(file)}, text)
    output.note(f"written to {file}")
    tell_trackers(run, [file], output)

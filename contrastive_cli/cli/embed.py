"""`clr embed`: images in, an embeddings file out, or a folder of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.embedding import EmbedRequest, carry_out, check_out
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
    Overwrite,
    Quiet,
    RunName,
    SpaceName,
    Unlabeled,
    Weights,
    chosen_run,
    refuse_beside,
)
from contrastive_cli.cli.processes import PROCESSES_HELP, enter_processes
from contrastive_cli.core.choices import Layer
from contrastive_cli.core.sizes import parse_size


def embed(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Image files and folders; none for a split of the run's dataset.")
    ] = None,
    run: RunName = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    set_: EncoderSets = None,
    out: Annotated[
        Path,
        typer.Option(help=".pkl, .npz, .safetensors, .parquet, .csv or .jsonl; a folder of parquet shards without."),
    ] = Path("embeddings.pkl"),
    overwrite: Overwrite = False,
    max_file: Annotated[
        str, typer.Option(metavar="SIZE", help="Vectors that go into one file, as 500MB; more become a folder.")
    ] = "1GB",
    split: Annotated[
        str | None, typer.Option(help="Split of the dataset, such as train, val or all; test if not given.")
    ] = None,
    layer: Annotated[
        Layer | None, typer.Option(help="h of the encoder, or z of the projector; default: what the run chose.")
    ] = None,
    space: SpaceName = None,
    crops: Crops = 1,
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    download: Download = False,
    max_bad: MaxBad = None,
    labels: Labels = None,
    layout: Layout = None,
    unlabeled: Unlabeled = False,
    device: Device = "auto",
    processes: Annotated[int | None, typer.Option(min=1, help=PROCESSES_HELP)] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Embed a split, folders or files with a trained encoder.

    A folder that was begun is gone on with by the same command.

    clr embed

    clr embed photos/ --out photos.npz

    clr embed photos/ --encoder resnet50 --weights model.safetensors

    clr embed photos/ --out vectors --processes 2     (a folder of parquet shards)

    clr embed --space raw     (h itself, as for a head of one's own)
    """
    check_out(out)
    if paths:
        refuse_beside("PATHS", {"--split": split, "--dataset": dataset, "--data-dir": data_dir, "--download": download})
    largest = parse_size(max_file, name="--max-file")
    enter_processes(processes)
    output = Output(json=json, quiet=quiet)
    found = chosen_run(run, output, encoder=encoder, weights=weights, sets=set_)
    from contrastive_cli.services.inference.crops import check_crops
    from contrastive_cli.services.outputs import refuse_table

    refuse_table(out, overwrite=overwrite)
    carry_out(
        EmbedRequest(
            run=found,
            paths=tuple(paths or ()),
            out=out,
            overwrite=overwrite,
            max_file=largest,
            split=split or "test",
            layer=layer,
            space=space,
            crops=check_crops(crops),
            dataset=dataset,
            data_dir=data_dir,
            download=download,
            max_bad=max_bad,
            labels=labels,
            layout=layout,
            unlabeled=unlabeled,
            device=device,
            output=output,
        )
    )

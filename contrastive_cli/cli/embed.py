"""`clr embed`: images in, an embeddings file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import (
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
    Unlabeled,
    Weights,
    chosen_run,
    refuse_beside,
)
from contrastive_cli.cli.processes import PROCESSES_HELP, enter_processes, part_processes
from contrastive_cli.core.choices import Layer
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.launched import place

SUFFIXES = (".pkl", ".npz", ".safetensors", ".parquet", ".csv", ".jsonl")


def embed(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Image files and folders; none for a split of the run's dataset.")
    ] = None,
    run: RunName = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    set_: EncoderSets = None,
    out: Annotated[Path, typer.Option(help=".pkl, .npz, .safetensors, .parquet, .csv or .jsonl.")] = Path(
        "embeddings.pkl"
    ),
    overwrite: Overwrite = False,
    split: Annotated[
        str | None, typer.Option(help="Split of the dataset, such as train, val or all; test if not given.")
    ] = None,
    layer: Annotated[Layer, typer.Option(help="h of the encoder, or z of the projector.")] = "h",
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

    clr embed

    clr embed photos/ --out photos.npz

    clr embed photos/ --encoder resnet50 --weights model.safetensors
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out {str(out)!r} has no known suffix; known are {', '.join(SUFFIXES)}")
    if paths and max(place().size, processes or 1) > 1:
        raise UsageError(
            "PATHS are embedded by one process; several embed a split",
            hint="leave out --processes and the launcher, or pass --dataset folder --data-dir FOLDER --split all",
        )
    if paths:
        refuse_beside("PATHS", {"--split": split, "--dataset": dataset, "--data-dir": data_dir, "--download": download})
    enter_processes(processes)
    output = Output(json=json, quiet=quiet)
    found = chosen_run(run, output, encoder=encoder, weights=weights, sets=set_)
    from contrastive_cli.services.outputs import refuse_other_embeddings, refuse_table

    refuse_table(out, overwrite=overwrite)
    from contrastive_cli.data.bad_files import refuse_many_bad
    from contrastive_cli.data.sources import BadFile, TreeOptions, known_layout
    from contrastive_cli.embeddings.files import write_embeddings
    from contrastive_cli.services.artifacts import register_artifact
    from contrastive_cli.services.inference.image_files import embed_paths, expand_paths
    from contrastive_cli.services.inference.model import embed_images, load_model
    from contrastive_cli.services.inference.splits import open_split, other_dataset

    model = load_model(found, device=device)
    unreadable = unused = 0
    with output.counting("embedding") as progress:
        if paths:
            options = TreeOptions(labels=labels, unlabeled=unlabeled, layout=known_layout(layout))
            expanded = expand_paths(paths, options=options)
            unused = expanded.unused
            refuse_other_embeddings(
                out, overwrite=overwrite, run=found.name, layer=layer, dataset=None, paths=set(map(str, expanded.files))
            )
            embeddings, bad = embed_paths(model, expanded.files, labels=expanded.labels, layer=layer, progress=progress)
            unreadable = len(bad)
            for error in bad:
                output.note(f"left out: {error.message}")
            if max_bad is not None:
                left_out = [BadFile(path=str(error.path), reason=error.reason) for error in bad]
                hint = "repair or remove them, or raise --max-bad"
                refuse_many_bad(left_out, len(bad) + len(embeddings.vectors), max_bad=max_bad, hint=hint)
        else:
            other = other_dataset(
                model,
                name=dataset,
                data_dir=data_dir,
                download=download,
                max_bad=max_bad,
                labels=labels,
                layout=layout,
                unlabeled=unlabeled,
            )
            images = open_split(model, split or "test", dataset=other, progress=progress)
            facts = {"name": images.name, "split": images.split}
            refuse_other_embeddings(out, overwrite=overwrite, run=found.name, layer=layer, dataset=facts, paths=())
            embeddings = embed_images(model, images, layer=layer, progress=progress)
    if not part_processes():
        return
    write_embeddings(out, embeddings)
    register_artifact(found, out, kind="embeddings")
    count, width = embeddings.vectors.shape
    uncertain = embeddings.uncertainty is not None
    output.result(
        {
            "file": str(out),
            "count": count,
            "width": width,
            "run": found.name,
            "unreadable": unreadable,
            "not_used": unused,
            "uncertainty": uncertain,
        },
        f"{out}: {count} embeddings of width {width} from {found.name}" + (", with uncertainty" if uncertain else ""),
    )

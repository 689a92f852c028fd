"""`clr plot`: maps of embeddings, augmented views, training curves, uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import DataDir, Device, Json, Quiet, RunName, Seed
from contrastive_cli.core.errors import UsageError

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run

KINDS = ("embeddings", "views", "curves", "uncertainty")
PROJECTIONS = ("tsne", "umap", "pca")


def plot(
    kind: Annotated[str, typer.Argument(help="embeddings, views, curves or uncertainty.")],
    file: Annotated[
        Path | None, typer.Argument(help="Embeddings file to map; default: the run's test split, embedded now.")
    ] = None,
    run: RunName = None,
    out: Annotated[Path | None, typer.Option(help="PNG or SVG to write; plots/ of the run if not given.")] = None,
    projection: Annotated[str, typer.Option(help="tsne, umap or pca.")] = "tsne",
    classes: Annotated[int | None, typer.Option(min=1, help="Only the k classes with the most images.")] = None,
    limit: Annotated[int, typer.Option(min=3, help="Most points on a map; most images for uncertainty.")] = 3000,
    split: Annotated[str, typer.Option(help="Split to map or measure.")] = "test",
    count: Annotated[int, typer.Option(min=1, max=32, help="Images on a grid of views.")] = 8,
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw a map of the embeddings, the views the training sees, its curves, or what its uncertainty is worth.

    clr plot embeddings

    clr plot embeddings photos.npz --projection umap

    clr plot views

    clr plot uncertainty     (a run of prob-simclr)
    """
    if kind not in KINDS:
        raise UsageError(f"no plot named {kind!r}; known are {', '.join(KINDS)}")
    if projection not in PROJECTIONS:
        raise UsageError(f"--projection {projection!r} is unknown; known are {', '.join(PROJECTIONS)}")
    if out is not None and out.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--out {str(out)!r} is neither .png nor .svg")
    if file is not None and kind != "embeddings":
        raise UsageError(f"a file is mapped by `clr plot embeddings FILE`, not by `clr plot {kind}`")
    output = Output(json=json, quiet=quiet)
    from contrastive_cli.core.runs import find_run

    found = None if file is not None and run is None else find_run(run)
    if kind == "uncertainty":
        assert found is not None, "only embeddings are mapped from a file"
        _plot_uncertainty(found, output, out=out, split=split, limit=limit, data_dir=data_dir, device=device, seed=seed)
        return
    from contrastive_cli.services import plotting

    if kind == "curves":
        assert found is not None, "only embeddings are mapped from a file"
        target = plotting.plot_curves(found, out=out)
    elif kind == "views":
        assert found is not None, "only embeddings are mapped from a file"
        target = plotting.plot_views(found, out=out, count=count, data_dir=data_dir)
    else:
        with output.counting("embedding") as progress:
            embeddings = plotting.embeddings_to_plot(
                found, file=file, split=split, data_dir=data_dir, device=device, progress=progress
            )
        output.note(f"projecting by {projection}")
        target = plotting.plot_embeddings(
            embeddings, run=found, file=file, out=out, projection=projection, classes=classes, limit=limit, seed=seed
        )
    output.result({"file": str(target), "kind": kind}, str(target))


def _plot_uncertainty(
    run: Run, output: Output, *, out: Path | None, split: str, limit: int, data_dir: Path | None, device: str, seed: int
) -> None:
    from contrastive_cli.services.embedding import load_model
    from contrastive_cli.services.uncertainty import describe, measure_uncertainty, plot_uncertainty

    model = load_model(run, device=device)
    dataset = None if data_dir is None else model.config.dataset.model_copy(update={"data_dir": data_dir})
    with output.counting("embedding") as progress:
        measured = measure_uncertainty(model, split=split, limit=limit, seed=seed, dataset=dataset, progress=progress)
    for line in describe(measured):
        output.note(line)
    target, result = plot_uncertainty(run, measured, out=out)
    output.note(f"all figures in {result}")
    output.result({"file": str(target), "kind": "uncertainty", **measured.as_json()}, str(target))

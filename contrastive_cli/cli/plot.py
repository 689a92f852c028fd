"""`clr plot`: maps of embeddings, augmented views, mined neighbours, training curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import DataDir, Device, Json, Quiet, RunName, Seed
from contrastive_cli.core.errors import UsageError

KINDS = ("embeddings", "views", "curves", "labels")
PROJECTIONS = ("tsne", "umap", "pca")


def plot(
    kind: Annotated[str, typer.Argument(help="embeddings, views, curves or labels.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="Embeddings to map (the run's test split if not given), or neighbours to draw."),
    ] = None,
    run: RunName = None,
    out: Annotated[Path | None, typer.Option(help="PNG or SVG to write; plots/ of the run if not given.")] = None,
    projection: Annotated[str, typer.Option(help="tsne, umap or pca.")] = "tsne",
    classes: Annotated[int | None, typer.Option(min=1, help="Only the k classes with the most images.")] = None,
    limit: Annotated[int, typer.Option(min=3, help="Most points on a map.")] = 3000,
    split: Annotated[str, typer.Option(help="Split to map.")] = "test",
    count: Annotated[int, typer.Option(min=1, max=32, help="Images on a grid of views or reconstructions.")] = 8,
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw a map of the embeddings, the views the training sees, its curves, or its accuracy over labels.

    clr plot embeddings

    clr plot embeddings photos.npz --projection umap

    clr plot views

    clr plot reconstructions
    """
    if kind not in KINDS:
        raise UsageError(f"no plot named {kind!r}; known are {', '.join(KINDS)}")
    if projection not in PROJECTIONS:
        raise UsageError(f"--projection {projection!r} is unknown; known are {', '.join(PROJECTIONS)}")
    if out is not None and out.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--out {str(out)!r} is neither .png nor .svg")
    if file is not None and kind not in ("embeddings", "neighbors"):
        raise UsageError(f"a file is drawn by `clr plot embeddings FILE` or `neighbors FILE`, not by `clr plot {kind}`")
    output = Output(json=json, quiet=quiet)
    from contrastive_cli.core.runs import find_run

    found = None if file is not None and run is None else find_run(run)
    from contrastive_cli.services import plotting

    facts: dict[str, Any] = {}
    if kind == "labels":
        assert found is not None, "only embeddings are mapped from a file"
        drawn = [str(path) for path in plotting.plot_labels(found, out=out)]
        output.result({"file": drawn[0], "files": drawn, "kind": kind}, "\n".join(drawn))
        return
    if kind == "curves":
        assert found is not None, "only embeddings are mapped from a file"
        target = plotting.plot_curves(found, out=out)
    elif kind == "views":
        assert found is not None, "only embeddings are mapped from a file"
        target = plotting.plot_views(found, out=out, count=count, data_dir=data_dir)
    elif kind == "neighbors":
        target = plotting.plot_neighbors(found, file=file, out=out, count=count, data_dir=data_dir)
    elif kind == "reconstructions":
        assert found is not None, "only embeddings are mapped from a file"
        from contrastive_cli.services.reconstructions import plot_reconstructions

        with output.counting("embedding") as progress:
            target, facts = plot_reconstructions(
                found, out=out, split=split, count=count, data_dir=data_dir, device=device, seed=seed, progress=progress
            )
        output.note(f"mean squared error {facts['error']:.3f} of {facts['images']} images, in normalised units")
    else:
        with output.counting("embedding") as progress:
            embeddings = plotting.embeddings_to_plot(
                found, file=file, split=split, data_dir=data_dir, device=device, progress=progress
            )
        output.note(f"projecting by {projection}")
        target = plotting.plot_embeddings(
            embeddings, run=found, file=file, out=out, projection=projection, classes=classes, limit=limit, seed=seed
        )
    output.result({"file": str(target), "kind": kind, **facts}, str(target))

"""`clr plot`: maps of embeddings, views, neighbors, reconstructions, uncertainty, accuracy over labels, curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from contrastive_cli.cli.completion import complete_runs
from contrastive_cli.cli.console import Output
from contrastive_cli.cli.drawing import PlotRequest, draw
from contrastive_cli.cli.options import (
    OUTPUT,
    RUN,
    Crops,
    DataDir,
    Device,
    Json,
    Quiet,
    Seed,
    SpaceName,
    chosen_run,
    refuse_beside,
)
from contrastive_cli.cli.plot_checks import check_figure, check_files, check_map, check_runs
from contrastive_cli.cli.tracking import tell_trackers
from contrastive_cli.core.choices import ProjectionKind, ThemeKind
from contrastive_cli.core.errors import UsageError

KINDS = ("embeddings", "views", "neighbors", "reconstructions", "uncertainty", "labels", "curves")
PROJECTIONS: tuple[ProjectionKind, ...] = get_args(ProjectionKind)


def plot(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Embeddings to map (the run's test split if not given; two for one page), or neighbors to draw.",
        ),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            help="Run directory or name, several for curves; default: the newest finished run under runs/.",
            autocompletion=complete_runs,
            rich_help_panel=RUN,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .png, .svg, .pdf, .jpg or .webp; a map also as .html, a page to explore, or "
            ".parquet; plots/ of the run if not given.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    projection: Annotated[str, typer.Option(help="tsne, umap, pca, or several: tsne,umap.")] = "tsne",
    metadata: Annotated[
        Path | None, typer.Option(help="CSV with a column `path` and others to color a page by.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Only the k classes with the most images.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=3, help="Most points on a map, most images for uncertainty; 3000, or 20000 on a page."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to map, measure or reconstruct; test if not given.")] = None,
    count: Annotated[int, typer.Option(min=1, max=32, help="Images on a grid.")] = 8,
    space: SpaceName = None,
    crops: Crops = 1,
    theme: Annotated[ThemeKind, typer.Option(help="Ground of a figure.", rich_help_panel=OUTPUT)] = "light",
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw what a run has learned.

    clr plot embeddings

    clr plot embeddings photos.npz --projection umap

    clr plot embeddings --projection tsne,umap --out map.html     (a page to explore)

    clr plot embeddings before.npz after.npz --out map.html

    clr plot views

    clr plot neighbors embeddings-neighbors.pkl

    clr plot reconstructions     (autoencoder, vae, autodecoder)

    clr plot uncertainty     (prob-simclr, vae)

    clr plot labels     (after linear-eval with several --label-fraction)

    clr plot curves

    clr plot curves --run runs/first --run runs/second --out curves.pdf
    """
    if kind not in KINDS:
        raise UsageError(f"no plot named {kind!r}; known are {', '.join(KINDS)}")
    asked = list(dict.fromkeys(name.strip() for name in projection.split(",")))
    for name in asked:
        if name not in PROJECTIONS:
            raise UsageError(f"--projection {name!r} is unknown; known are {', '.join(PROJECTIONS)}")
    projections = tuple(known for name in asked for known in PROJECTIONS if known == name)
    given = tuple(files or ())
    check_files(kind, given)
    named = list(dict.fromkeys(run or []))
    check_runs(kind, named, out=out)
    if kind != "embeddings" and out is not None:
        check_figure(out)
    if kind == "embeddings":
        check_map(given, out=out, projections=projections, metadata=metadata, data_dir=data_dir)
    else:
        asked_crops = None if crops == 1 else crops
        refuse_beside(f"`clr plot {kind}`", {"--metadata": metadata, "--space": space, "--crops": asked_crops})
    if given:
        refuse_beside("FILE", {"--split": split, "--crops": None if crops == 1 else crops})
    output = Output(json=json, quiet=quiet)
    runs = tuple(chosen_run(name, output) for name in named) or (() if given else (chosen_run(None, output),))
    request = PlotRequest(
        run=runs[0] if runs else None,
        runs=runs,
        files=given,
        out=out,
        projections=projections,
        metadata=metadata,
        classes=classes,
        limit=limit,
        split=split or "test",
        count=count,
        data_dir=data_dir,
        device=device,
        seed=seed,
        output=output,
        space=space,
        crops=crops,
    )
    from contrastive_cli.viz.theme import themed

    with themed(theme):
        files, facts = draw(kind, request)
    shown = {"file": str(files[0]), "kind": kind, **facts}
    shown |= {"files": [str(path) for path in files]} if len(files) > 1 else {}
    output.result(shown, "\n".join(map(str, files)))
    tell_trackers(request.run, files, output)

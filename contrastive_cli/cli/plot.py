"""`clr plot`: maps of embeddings, views, neighbors, reconstructions, uncertainty, accuracy over labels, curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from contrastive_cli.cli.completion import complete_runs
from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import OUTPUT, RUN, DataDir, Device, Json, Quiet, Seed, chosen_run, refuse_beside
from contrastive_cli.cli.plot_checks import check_figure, check_files, check_map, check_runs
from contrastive_cli.cli.tracking import tell_trackers
from contrastive_cli.core.choices import ProjectionKind, ThemeKind
from contrastive_cli.core.errors import UsageError

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run

KINDS = ("embeddings", "views", "neighbors", "reconstructions", "uncertainty", "labels", "curves")
PROJECTIONS: tuple[ProjectionKind, ...] = get_args(ProjectionKind)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotRequest:
    """What was asked for; without a run there is a file, and only curves are of several runs."""

    run: Run | None
    runs: tuple[Run, ...]
    files: tuple[Path, ...]
    out: Path | None
    projections: tuple[ProjectionKind, ...]
    metadata: Path | None
    classes: int | None
    limit: int | None
    split: str
    count: int
    data_dir: Path | None
    device: str
    seed: int
    output: Output

    @property
    def needed_run(self) -> Run:
        """The run, for kinds that are not drawn from a file."""
        assert self.run is not None, "only embeddings and neighbors come from a file"
        return self.run

    @property
    def needed_out(self) -> Path:
        """The file, for figures that no run holds."""
        assert self.out is not None, "check_runs asks for it"
        return self.out


Drawn = tuple[list[Path], Mapping[str, Any]]


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
        refuse_beside(f"`clr plot {kind}`", {"--metadata": metadata})
    if given:
        refuse_beside("FILE", {"--split": split})
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
    )
    from contrastive_cli.viz.theme import themed

    with themed(theme):
        files, facts = _draw(kind, request)
    shown = {"file": str(files[0]), "kind": kind, **facts}
    shown |= {"files": [str(path) for path in files]} if len(files) > 1 else {}
    output.result(shown, "\n".join(map(str, files)))
    tell_trackers(request.run, files, output)


def _draw(kind: str, request: PlotRequest) -> Drawn:
    match kind:
        case "views":
            return _views(request)
        case "neighbors":
            return _neighbors(request)
        case "reconstructions":
            return _reconstructions(request)
        case "uncertainty":
            return _uncertainty(request)
        case "labels":
            return _labels(request)
        case "curves":
            return _curves(request)
        case _:
            return _embeddings(request)


def _embeddings(request: PlotRequest) -> Drawn:
    from contrastive_cli.services.figures.embedding_map import embeddings_to_plot, plot_embeddings

    with request.output.counting("embedding") as progress:
        mapped = embeddings_to_plot(
            request.run,
            files=request.files,
            split=request.split,
            data_dir=request.data_dir,
            device=request.device,
            progress=progress,
        )
    for file, left_out in (
        (file, text) for file, one in zip(request.files, mapped, strict=False) for text in one.embeddings.notes
    ):
        request.output.note(f"{file}: {left_out}")
    with request.output.counting("projecting") as progress:
        targets, note = plot_embeddings(
            mapped,
            run=request.run,
            out=request.out,
            projections=request.projections,
            classes=request.classes,
            limit=request.limit,
            seed=request.seed,
            data_dir=request.data_dir,
            metadata=request.metadata,
            progress=progress,
        )
    if not note:
        return targets, {}
    request.output.note(note)
    return targets, {"note": note}


def _views(request: PlotRequest) -> Drawn:
    from contrastive_cli.services.figures.figures import plot_views

    return [plot_views(request.needed_run, out=request.out, count=request.count, data_dir=request.data_dir)], {}


def _neighbors(request: PlotRequest) -> Drawn:
    from contrastive_cli.services.figures.neighbors import plot_neighbors

    target = plot_neighbors(
        request.run,
        file=request.files[0] if request.files else None,
        out=request.out,
        count=request.count,
        data_dir=request.data_dir,
    )
    return [target], {}


def _reconstructions(request: PlotRequest) -> Drawn:
    from contrastive_cli.services.figures.reconstructions import plot_reconstructions

    with request.output.counting("embedding") as progress:
        target, facts = plot_reconstructions(
            request.needed_run,
            out=request.out,
            split=request.split,
            count=request.count,
            data_dir=request.data_dir,
            device=request.device,
            seed=request.seed,
            progress=progress,
        )
    request.output.note(f"mean squared error {facts['error']:.3f} of {facts['images']} images, in normalized units")
    return [target], facts


def _uncertainty(request: PlotRequest) -> Drawn:
    from contrastive_cli.services.evaluation.uncertainty import describe, measure_uncertainty, plot_uncertainty
    from contrastive_cli.services.inference.model import load_model

    model = load_model(request.needed_run, device=request.device)
    dataset = model.dataset_at(request.data_dir)
    with request.output.counting("embedding") as progress:
        measured = measure_uncertainty(
            model,
            split=request.split,
            limit=request.limit or 3000,
            seed=request.seed,
            dataset=dataset,
            progress=progress,
        )
    for line in describe(measured):
        request.output.note(line)
    target, result = plot_uncertainty(request.needed_run, measured, out=request.out)
    request.output.note(f"all figures in {result}")
    return [target], measured.to_dict()


def _labels(request: PlotRequest) -> Drawn:
    from contrastive_cli.services.figures.figures import plot_labels

    return list(plot_labels(request.needed_run, out=request.out)), {}


def _curves(request: PlotRequest) -> Drawn:
    from contrastive_cli.services.figures.figures import plot_compared_curves, plot_curves

    if len(request.runs) > 1:
        return [plot_compared_curves(request.runs, out=request.needed_out)], {}
    return [plot_curves(request.needed_run, out=request.out)], {}

"""What `clr plot` draws, a function for each kind; the command itself is in `plot`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_cli.cli.console import Output
from contrastive_cli.core.choices import ProjectionKind, SpaceKind

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run


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
    space: SpaceKind | None = None
    crops: int = 1

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


def draw(kind: str, request: PlotRequest) -> Drawn:
    """The files that were drawn, and facts of them."""
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
    from contrastive_cli.services.inference.crops import check_crops

    with request.output.counting("embedding") as progress:
        mapped = embeddings_to_plot(
            request.run,
            files=request.files,
            split=request.split,
            data_dir=request.data_dir,
            device=request.device,
            kind=request.space,
            crops=check_crops(request.crops),
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

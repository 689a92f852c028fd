"""What a command measured or drew, told to the trackers that its run names; nothing where it names none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contrastive_cli.core.choices import TrackerName
from contrastive_cli.core.errors import ClrError

if TYPE_CHECKING:
    from contrastive_cli.cli.console import Output
    from contrastive_cli.core.runs import Run

MAP_POINTS = 1000


def tell_trackers(run: Run | None, files: Sequence[Path], output: Output) -> None:
    """Tell of result files and pictures; a tracker that is out of order is a note, for the work is done."""
    try:
        names = () if run is None else _trackers_of(run)
        if run is not None and names:
            from contrastive_cli.services.trackers.telling import publish

            publish(run, names, files)
    except ClrError as error:
        output.note(f"warning: the trackers were not told: {error.message}")


def show_training(run: Run, output: Output) -> None:
    """After a training: draw its views and a map of its test split, and show them to its trackers."""
    from contrastive_cli.engine.distributed import process_rank

    try:
        if process_rank() > 0 or not _trackers_of(run):
            return
    except ClrError:
        return
    from contrastive_cli.services.figures.embedding_map import embeddings_to_plot, plot_embeddings
    from contrastive_cli.services.figures.figures import plot_views

    output.note("drawing views and a map for the trackers")
    files: list[Path] = []
    try:
        files.append(plot_views(run, out=None, count=8, data_dir=None))
        manifest = run.manifest()
        mapped = embeddings_to_plot(run, files=(), split="test", data_dir=None, device=manifest.device)
        drawn, _ = plot_embeddings(
            mapped, run=run, out=None, projections=("tsne",), classes=None, limit=MAP_POINTS, seed=0
        )
        files += drawn
    except ClrError as error:
        output.note(f"not drawn: {error.message}")
    tell_trackers(run, files, output)


def _trackers_of(run: Run) -> tuple[TrackerName, ...]:
    from contrastive_cli.services.configuration import read_run_config

    return read_run_config(run).train.trackers

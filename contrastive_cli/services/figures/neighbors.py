"""Images beside their nearest neighbors. `clr plot neighbors` reaches this module."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.manifest import Manifest
from contrastive_cli.core.runs import Run
from contrastive_cli.data.datasets import find_dataset, known_dataset
from contrastive_cli.data.images import decode
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.data.ranges import survey_files
from contrastive_cli.embeddings.files import NeighborsFile, read_neighbors
from contrastive_cli.services.artifacts import register_artifact
from contrastive_cli.services.configuration import read_run_config
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.display import for_display
from contrastive_cli.services.opening import open_images
from contrastive_cli.services.training.mined_neighbors import neighbors_of, without_self
from contrastive_cli.viz.grids import neighbors_grid

SHOWN_NEIGHBORS = 8
THUMBNAIL = 96  # pixels of the side of an image file that is drawn


def plot_neighbors(run: Run | None, *, file: Path | None, out: Path | None, count: int, data_dir: Path | None) -> Path:
    """Some images beside their mined neighbors: those of a file, or those that a run was trained with.

    A file of embedded image files, without a run, is drawn from these files, which may have moved to `data_dir`.

    Raises:
        UsageError: If there is neither.
        DataError: If the file does not say of which dataset it is, or is not of the images found.
    """
    known = None if run is None else run.manifest().neighbors
    if file is None and known is None:
        raise UsageError("no neighbors to draw", hint="give a file of `clr knn`, or a --run that was trained with one")
    path = file or Path(known.path if known else "")
    mined = read_neighbors(path)
    if run is None and not mined.dataset and not mined.queries and mined.paths is not None:
        return _plot_neighboring_files(mined, mined.paths, path, out=out, count=count, data_dir=data_dir)
    own = None if run is None else read_run_config(run).dataset
    name = str(mined.dataset.get("name") or (own.name if own else ""))
    if not name:
        raise DataError(f"{path} does not say of which dataset it is", hint="give a --run on its images", path=path)
    dataset = own if own is not None and _short_name(own) in (name, own.name) else DatasetConfig(name=name)
    of_run = None if run is None or dataset is not own else run.manifest()
    try:
        dataset = _scaled_as(mined, dataset, of_run)
        dataset = dataset.model_copy(update={"download": False, "data_dir": data_dir or dataset.data_dir})
        split = str(mined.dataset.get("split") or find_dataset(dataset.name).pretrain_split)
        images = open_images(dataset, split=split, size=dataset.stored_size or dataset.size)
    except UsageError as error:  # it is the file that asks for what there is not
        raise DataError(f"{path}: {error.message}", hint=error.hint, path=path) from None
    neighbors = neighbors_of(images, mined, path=path)
    chosen = draw_positions(images.num_samples, limit=count, seed=0)
    shown = neighbors.indices.numpy()[chosen, :SHOWN_NEIGHBORS]
    pixels = np.asarray(images.images[np.unique(shown)])[np.searchsorted(np.unique(shown), shown)]
    target = out or (run.path / "plots" / "neighbors.png" if run is not None else path.with_suffix(".png"))
    facts = neighbors.facts
    share = ""
    if facts.purity is not None:
        share = f", {100 * facts.purity:.1f} % of {facts.per_image} neighbors of its class"
    neighbors_grid(
        for_display(np.asarray(images.images[chosen]), dataset),
        for_display(pixels, dataset),
        path=target,
        title=f"neighbors in {name} {images.split}",
        caption=f"{path.name}, {facts.metric}{share}",
        query_labels=images.labels[chosen] if images.has_labels else None,
        neighbor_labels=images.labels[shown] if images.has_labels else None,
        classes=images.classes,
    )
    if run is not None:
        register_artifact(run, target, kind="plot")
    return target


def _short_name(dataset: DatasetConfig) -> str:
    """The name that embeddings of the dataset's images carry."""
    spec = known_dataset(dataset.name)
    return dataset.name if spec is None else spec.name


def _scaled_as(mined: NeighborsFile, dataset: DatasetConfig, of_run: Manifest | None) -> DatasetConfig:
    """How the pictures became channels of eight bits: as the file says, else as the run, else as they would now."""
    said = {key: mined.dataset[key] for key in ("range", "bands") if mined.dataset.get(key) is not None}
    kept = {} if of_run is None else {"range": of_run.range, "bands": of_run.bands}
    tree = {key: value for key, value in {**kept, **said}.items() if value is not None}
    shown = dataset.display_bands if dataset.bands == tree.get("bands") else None
    return build(DatasetConfig, {**dataset.model_dump(), **tree, "display_bands": shown})


def _places(names: Sequence[str], *, moved_to: Path | None) -> list[Path]:
    """Where the images are: as they are named, or below the folder that stands for the one they all lay in."""
    if moved_to is None:
        return [Path(name) for name in names]
    common = os.path.commonpath([os.path.dirname(os.path.abspath(name)) for name in names])  # noqa: PTH100, PTH120
    return [moved_to / Path(os.path.abspath(name)).relative_to(common) for name in names]  # noqa: PTH100


def _plot_neighboring_files(
    mined: NeighborsFile, names: Sequence[str], path: Path, *, out: Path | None, count: int, data_dir: Path | None
) -> Path:
    indices = without_self(mined.indices)
    if 0 in indices.shape or indices.min() < 0 or indices.max() >= len(names):
        raise DataError(f"{path} names no neighbors of its {len(names)} images", path=path)
    chosen = draw_positions(len(indices), limit=count, seed=0)
    shown = indices[chosen, :SHOWN_NEIGHBORS]
    wanted = np.union1d(chosen, shown)
    places = _places(names, moved_to=data_dir)
    files = [places[index] for index in wanted]
    for file in files:
        if not file.exists():
            message = f"{path} names {file.absolute()}, which is not there"
            raise DataError(message, hint="give the folder that the images are in now by --data-dir", path=path)
    scaled = survey_files(files, asked="auto", bands=None).picture_range
    pixels = np.stack([decode(file, size=THUMBNAIL, channels=3, picture_range=scaled) for file in files])
    target = out or path.with_suffix(".png")
    neighbors_grid(
        pixels[np.searchsorted(wanted, chosen)],
        pixels[np.searchsorted(wanted, shown)],
        path=target,
        title="neighbors",
        caption=f"{path.name}, {mined.metric}",
    )
    return target

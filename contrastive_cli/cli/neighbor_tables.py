"""Neighbors as `clr nearest-neighbors` shows and writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.files import is_table
from contrastive_cli.core.wording import counted

if TYPE_CHECKING:
    from contrastive_cli.cli.console import Output
    from contrastive_cli.embeddings.files import Embeddings
    from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors

SHOWN = 5


def write_found(
    target: Path,
    embeddings: Embeddings,
    found: Neighbors,
    items: list[str],
    *,
    asked: Embeddings,
    metric: Metric,
    source: Path,
    queries: str,
) -> None:
    """The neighbors as a file of ours, or as a table with a line a neighbor."""
    from contrastive_cli.embeddings.files import NeighborsFile, write_neighbors
    from contrastive_cli.embeddings.result_tables import write_table

    if is_table(target):
        names = plain_names(embeddings)
        measure = "similarity" if metric == "cosine" else "distance"
        lines = (
            {"item": item, "rank": rank, "neighbor": near["item"], "index": near["index"], measure: near[measure]}
            for row, item in enumerate(items)
            for rank, near in enumerate(neighbors_of(found, row, names=names, metric=metric), 1)
        )
        write_table(target, lines, columns=["item", "rank", "neighbor", "index", measure], paths=["item", "neighbor"])
        return
    neighbors = NeighborsFile(
        indices=found.indices,
        distances=found.distances,
        metric=metric,
        paths=asked.paths,
        dataset=embeddings.dataset,
        source=str(source),
        queries=queries,
    )
    write_neighbors(target, neighbors)


def neighbors_of(found: Neighbors, row: int, *, names: Any, metric: Metric) -> list[dict[str, Any]]:
    """The neighbors of one row as plain values, the nearest first."""
    pairs = zip(found.indices[row].tolist(), found.distances[row].tolist(), strict=True)
    if metric == "cosine":
        return [
            {"item": names(index), "index": index, "similarity": 1 - distance, "distance": distance}
            for index, distance in pairs
        ]
    return [{"item": names(index), "index": index, "distance": distance} for index, distance in pairs]


def measure_of(metric: Metric) -> str:
    """What is shown beside a neighbor."""
    return "cosine similarity" if metric == "cosine" else "euclidean distance"


def shown_distance(distance: float, metric: Metric) -> str:
    """The similarity for cosine, whose difference from one is written out where it is small; else the distance."""
    if metric == "euclidean":
        return f"{distance:.4g}"
    return f"1 - {distance:.1e}" if 0 < distance < 1e-3 else f"{1 - distance:.4f}"


def plain_names(embeddings: Embeddings) -> Any:
    """A function from a row to its name as it is."""
    paths = embeddings.paths
    return (lambda index: str(index)) if paths is None else (lambda index: paths[index])


def clean_names(embeddings: Embeddings) -> Any:
    """A function from a row to its name, safe for a terminal."""

    def name(index: int) -> str:
        text = embeddings.paths[index] if embeddings.paths is not None else str(index)
        labels = embeddings.labels
        if labels is not None and 0 <= labels[index] < len(embeddings.classes):
            text += f" [{embeddings.classes[int(labels[index])]}]"
        return text

    return name


def purity_of(asked: Embeddings, embeddings: Embeddings, found: Neighbors) -> float | None:
    """The part of the nearest that are of the class of what was asked, where both classes are known."""
    if asked.labels is None or embeddings.labels is None or asked.classes != embeddings.classes:
        return None
    labels, nearest = asked.labels, embeddings.labels[found.indices[:, 0]]
    known = labels >= 0
    return float((nearest == labels)[known].mean()) if known.any() else None


def show_first(asked: Embeddings, embeddings: Embeddings, found: Neighbors, *, metric: Metric, output: Output) -> None:
    """The neighbors of the first few as a table."""
    from contrastive_cli.cli.console import Lines

    names, own_names = clean_names(embeddings), clean_names(asked)
    shown = min(SHOWN, found.indices.shape[1])
    near = [
        [(names(index), shown_distance(distance, metric)) for index, distance in zip(indices, distances, strict=True)]
        for indices, distances in zip(
            found.indices[:SHOWN, :shown].tolist(), found.distances[:SHOWN, :shown].tolist(), strict=True
        )
    ]
    count = found.indices.shape[1]
    title = f"neighbors of {len(asked.vectors)} embeddings ({measure_of(metric)}), the first {SHOWN}"
    title += "" if count == shown else f", {shown} of {count} each"
    output.table(
        title=title,
        columns=["item", *(f"neighbor {rank + 1}" for rank in range(shown))],
        rows=[[own_names(row), *(f"{name} ({value})" for name, value in pairs)] for row, pairs in enumerate(near)],
        piped=[
            Lines(
                title=title,
                columns=["item", "rank", "neighbor", measure_of(metric)],
                rows=[
                    [own_names(row), str(rank), name, value]
                    for row, pairs in enumerate(near)
                    for rank, (name, value) in enumerate(pairs, 1)
                ],
            )
        ],
    )


def maker_of(embeddings: Embeddings, file: Path) -> str | None:
    """The run that an embeddings file says it was made by: the one that the file lies in, or one of that name.

    Raises:
        RunError: If there is none of that name here.
    """
    from contrastive_cli.core.errors import RunError
    from contrastive_cli.core.runs import find_run

    name = embeddings.model.get("run")
    if not isinstance(name, str):
        return None
    for folder in file.absolute().parents[:2]:
        if folder.name == name and (folder / "manifest.json").is_file():
            return str(folder)
    try:
        return str(find_run(name).path)
    except RunError as error:
        message = f"{file} was made by run {name}, which is not here: {error.message}"
        raise RunError(message, hint="give its directory by --run, or its --encoder and --weights", path=file) from None


def clip_k(k: int, available: int, output: Output) -> int:
    """As many neighbors as there are, which is said."""
    if k > available:
        are = "is" if available == 1 else "are"
        output.note(f"warning: only {counted(available, 'neighbor')} {are} available, not {k}")
    return min(k, available)

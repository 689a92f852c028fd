"""`clr nearest-neighbors`, in short `clr knn`: the nearest embeddings of every embedding in a file, or of an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import Device, Json, Quiet, RunName
from contrastive_cli.core.errors import UsageError

if TYPE_CHECKING:
    from contrastive_cli.embeddings.files import Embeddings
    from contrastive_cli.embeddings.knn import Neighbors

SHOWN = 5
SUFFIXES = (".pkl", ".npz", ".safetensors", ".parquet")


def nearest_neighbors(
    file: Annotated[Path, typer.Argument(help="Embeddings: .pkl, .npz, .npy, .safetensors, .parquet.")],
    metric: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Neighbours of each.")] = 20,
    query: Annotated[
        list[Path] | None, typer.Option(help="Image to look up in the file; repeatable. Needs the run.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=".pkl, .npz, .safetensors or .parquet; FILE's name with -neighbors.pkl if not given."),
    ] = None,
    run: RunName = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find exact nearest neighbours; each item is left out of its own.

    clr knn embeddings.pkl --metric cosine

    clr knn photos.npz --query photo.jpg -k 5
    """
    if metric not in ("cosine", "euclidean"):
        raise UsageError(f"--metric {metric!r} is unknown; known are cosine, euclidean")
    if out is not None and out.suffix not in SUFFIXES:
        raise UsageError(f"--out {str(out)!r} has no known suffix; known are {', '.join(SUFFIXES)}")
    output = Output(json=json, quiet=quiet)
    from contrastive_cli.embeddings.files import read_embeddings

    embeddings = read_embeddings(file)
    chosen: Literal["cosine", "euclidean"] = "cosine" if metric == "cosine" else "euclidean"
    if query:
        _look_up(embeddings, query, k=k, metric=chosen, run=run, device=device, output=output)
    else:
        _mine(embeddings, file, k=k, metric=chosen, out=out, output=output)


def _mine(
    embeddings: Embeddings,
    file: Path,
    *,
    k: int,
    metric: Literal["cosine", "euclidean"],
    out: Path | None,
    output: Output,
) -> None:
    from contrastive_cli.embeddings.files import NeighborsFile, write_neighbors
    from contrastive_cli.embeddings.knn import nearest_neighbors as search

    count = len(embeddings.vectors)
    if count < 2:
        raise UsageError(f"{file} holds {count} embedding; neighbours need two or more")
    target = out or file.with_name(f"{file.stem}-neighbors.pkl")
    if target.exists() and target.samefile(file):
        raise UsageError(f"--out {target} is the embeddings file itself", hint="give the neighbours another name")
    k = _clip(k, count - 1, output)
    with output.counting("neighbours") as progress:
        found = search(embeddings.vectors, k=k, metric=metric, progress=progress)
    neighbors = NeighborsFile(
        indices=found.indices,
        distances=found.distances,
        metric=metric,
        paths=embeddings.paths,
        dataset=embeddings.dataset,
        source=str(file),
    )
    write_neighbors(target, neighbors)
    purity = _purity(embeddings, found)
    names = _names(embeddings)
    output.table(
        title=f"{metric} neighbours of {count} embeddings, the first {SHOWN}",
        columns=["item", *(f"neighbour {rank + 1}" for rank in range(min(3, k)))],
        rows=[
            [
                names(row),
                *(
                    f"{names(int(i))} ({d:.3f})"
                    for i, d in zip(found.indices[row][:3], found.distances[row][:3], strict=True)
                ),
            ]
            for row in range(min(SHOWN, count))
        ],
    )
    text = f"{target}: {k} neighbours of {count} embeddings"
    if purity is not None:
        text += f"; {100 * purity:.1f} % of the nearest are of the same class"
    output.result({"file": str(target), "count": count, "k": k, "metric": metric, "same_class": purity}, text)


def _look_up(
    embeddings: Embeddings,
    queries: list[Path],
    *,
    k: int,
    metric: Literal["cosine", "euclidean"],
    run: str | None,
    device: str,
    output: Output,
) -> None:
    from contrastive_cli.core.runs import find_run
    from contrastive_cli.embeddings.knn import nearest_neighbors as search
    from contrastive_cli.services.embedding import embed_paths, load_model

    made_by = embeddings.model.get("run")
    found_run = find_run(run or (made_by if isinstance(made_by, str) else None))
    model = load_model(found_run, device=device)
    if embeddings.model.get("checkpoint") not in (None, model.checkpoint):
        raise UsageError(
            f"the embeddings were made by {embeddings.model.get('run')}, not by {found_run.name} as it is now",
            hint="embed again, or choose the right --run",
        )
    layer: Literal["h", "z"] = "z" if embeddings.model.get("layer") == "z" else "h"
    embedded, bad = embed_paths(model, queries, layer=layer)
    if bad:
        raise bad[0]
    k = _clip(k, len(embeddings.vectors), output)
    found = search(embeddings.vectors, k=k, metric=metric, queries=embedded.vectors)
    names = _names(embeddings)
    results: list[dict[str, Any]] = []
    for row, path in enumerate(queries):
        nearest = [
            {"item": names(int(index)), "index": int(index), "distance": float(distance)}
            for index, distance in zip(found.indices[row], found.distances[row], strict=True)
        ]
        results.append({"query": str(path), "neighbors": nearest})
        output.table(
            title=f"nearest to {path}",
            columns=["rank", "item", f"{metric} distance"],
            rows=[[str(rank + 1), item["item"], f"{item['distance']:.4f}"] for rank, item in enumerate(nearest)],
        )
    if output.json:
        output.result({"queries": results, "metric": metric}, "")


def _clip(k: int, available: int, output: Output) -> int:
    if k > available:
        output.note(f"warning: only {available} neighbours are available, not {k}")
    return min(k, available)


def _purity(embeddings: Embeddings, found: Neighbors) -> float | None:
    labels = embeddings.labels
    if labels is None or not (labels >= 0).any():
        return None
    known = labels >= 0
    return float((labels[found.indices[:, 0]] == labels)[known].mean())


def _names(embeddings: Embeddings) -> Any:
    def name(index: int) -> str:
        text = embeddings.paths[index] if embeddings.paths is not None else str(index)
        labels = embeddings.labels
        if labels is not None and 0 <= labels[index] < len(embeddings.classes):
            text += f" [{embeddings.classes[int(labels[index])]}]"
        return text

    return name

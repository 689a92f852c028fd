"""`clr nearest-neighbors`, in short `clr knn`: the nearest embeddings of every embedding in a file, or of an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import Device, Json, Quiet, RunName, chosen_run, refuse_beside
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.wording import counted

if TYPE_CHECKING:
    from contrastive_cli.embeddings.files import Embeddings
    from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors

SHOWN = 5
SUFFIXES = (".pkl", ".npz", ".safetensors", ".parquet")


def nearest_neighbors(
    file: Annotated[Path, typer.Argument(help="Embeddings: .pkl, .npz, .npy, .safetensors, .parquet.")],
    metric: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Neighbors of each.")] = 20,
    query: Annotated[
        list[Path] | None, typer.Option(help="Image to look up in the file; repeatable. Needs the run.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Embeddings to look up in FILE, which is then read in pieces if large.")
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
    """Find exact nearest neighbors; each item of FILE is left out of its own, an image of --query is not.

    clr knn embeddings.pkl --metric cosine

    clr knn photos.npz --query photo.jpg -k 5

    clr knn million.npy --queries embeddings.pkl
    """
    if query and queries is not None:
        raise UsageError("--query and --queries exclude each other", hint="embed the images and give --queries FILE")
    if query:
        refuse_beside("--query", {"--out": out})
    else:
        refuse_beside("a file alone, without --query", {"--run": run, "--device": None if device == "auto" else device})
    if metric not in ("cosine", "euclidean"):
        raise UsageError(f"--metric {metric!r} is unknown; known are cosine, euclidean")
    if out is not None and out.suffix not in SUFFIXES:
        raise UsageError(f"--out {str(out)!r} has no known suffix; known are {', '.join(SUFFIXES)}")
    output = Output(json=json, quiet=quiet)
    from contrastive_cli.embeddings.files import read_embeddings

    embeddings = read_embeddings(file)
    chosen: Literal["cosine", "euclidean"] = "cosine" if metric == "cosine" else "euclidean"
    if query:
        _look_up(embeddings, file, query, k=k, metric=chosen, run=run, device=device, output=output)
    else:
        _mine(embeddings, file, queries=queries, k=k, metric=chosen, out=out, output=output)


def _mine(
    embeddings: Embeddings,
    file: Path,
    *,
    queries: Path | None,
    k: int,
    metric: Literal["cosine", "euclidean"],
    out: Path | None,
    output: Output,
) -> None:
    from contrastive_cli.embeddings.files import NeighborsFile, read_embeddings, write_neighbors
    from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors as search

    asked = embeddings if queries is None else read_embeddings(queries)
    available = len(embeddings.vectors) - (queries is None)
    if available < 1:
        raise UsageError(f"{file} holds {len(embeddings.vectors)} embedding; neighbors need two or more")
    of = queries or file
    target = out or of.with_name(f"{of.stem}-neighbors.pkl")
    for given in (file, of):
        if target.exists() and target.samefile(given):
            raise UsageError(f"--out {target} is an embeddings file itself", hint="give the neighbors another name")
    k = _clip(k, available, output)
    zeros = int((~asked.vectors.any(axis=1)).sum()) if metric == "cosine" else 0
    if zeros:
        output.note(f"warning: {zeros} of {len(asked.vectors)} vectors are zero, which have a cosine with nothing")
    with output.counting("neighbors") as progress:
        found = search(
            embeddings.vectors,
            k=k,
            metric=metric,
            queries=None if queries is None else asked.vectors,
            progress=progress,
        )
    neighbors = NeighborsFile(
        indices=found.indices,
        distances=found.distances,
        metric=metric,
        paths=asked.paths,
        dataset=embeddings.dataset,
        source=str(file),
        queries="" if queries is None else str(queries),
    )
    write_neighbors(target, neighbors)
    purity = _purity(asked, embeddings, found)
    count = len(asked.vectors)
    text = f"{target}: {k} neighbors of {count} embeddings"
    if queries is not None:
        text += f" among {len(embeddings.vectors)}"
    if purity is not None:
        text += f"; {100 * purity:.1f} % of the nearest are of the same class"
    _show_first(asked, embeddings, found, metric=metric, output=output)
    output.result({"file": str(target), "count": count, "k": k, "metric": metric, "same_class": purity}, text)


def _show_first(asked: Embeddings, embeddings: Embeddings, found: Neighbors, *, metric: str, output: Output) -> None:
    names, own_names = _names(embeddings), _names(asked)
    shown = min(3, found.indices.shape[1])
    rows = []
    for row, (nearest, distances) in enumerate(zip(found.indices[:SHOWN], found.distances[:SHOWN], strict=True)):
        pairs = zip(nearest[:shown].tolist(), distances[:shown].tolist(), strict=True)
        rows.append([own_names(row), *(f"{names(index)} ({distance:.3g})" for index, distance in pairs)])
    output.table(
        title=f"{metric} neighbors of {len(asked.vectors)} embeddings, the first {SHOWN}",
        columns=["item", *(f"neighbor {rank + 1}" for rank in range(shown))],
        rows=rows,
    )


def _look_up(
    embeddings: Embeddings,
    file: Path,
    queries: list[Path],
    *,
    k: int,
    metric: Literal["cosine", "euclidean"],
    run: str | None,
    device: str,
    output: Output,
) -> None:
    from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors as search
    from contrastive_cli.services.inference.image_files import embed_paths
    from contrastive_cli.services.inference.model import load_model

    found_run = chosen_run(run or _maker(embeddings, file), output)
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
            rows=[[str(rank + 1), item["item"], f"{item['distance']:.4g}"] for rank, item in enumerate(nearest)],
        )
    if output.json:
        output.result({"queries": results, "metric": metric}, "")


def _maker(embeddings: Embeddings, file: Path) -> str | None:
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
        raise RunError(message, hint="give its directory by --run", path=file) from None


def _clip(k: int, available: int, output: Output) -> int:
    if k > available:
        are = "is" if available == 1 else "are"
        output.note(f"warning: only {counted(available, 'neighbor')} {are} available, not {k}")
    return min(k, available)


def _purity(asked: Embeddings, embeddings: Embeddings, found: Neighbors) -> float | None:
    """The part of the nearest that are of the class of what was asked, where both classes are known."""
    if asked.labels is None or embeddings.labels is None or asked.classes != embeddings.classes:
        return None
    labels, nearest = asked.labels, embeddings.labels[found.indices[:, 0]]
    known = labels >= 0
    return float((nearest == labels)[known].mean()) if known.any() else None


def _names(embeddings: Embeddings) -> Any:
    def name(index: int) -> str:
        text = embeddings.paths[index] if embeddings.paths is not None else str(index)
        labels = embeddings.labels
        if labels is not None and 0 <= labels[index] < len(embeddings.classes):
            text += f" [{embeddings.classes[int(labels[index])]}]"
        return text

    return name

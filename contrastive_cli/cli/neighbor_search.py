"""What `clr nearest-neighbors` does: mines a file of embeddings, or looks images up in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.neighbor_tables import (
    clean_names,
    clip_k,
    maker_of,
    measure_of,
    neighbors_of,
    plain_names,
    purity_of,
    show_first,
    shown_distance,
    write_found,
)
from contrastive_cli.cli.options import chosen_run
from contrastive_cli.cli.processes import part_processes
from contrastive_cli.core.choices import Layer, Metric, SpaceKind
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import is_seen, is_table
from contrastive_cli.core.launched import place

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run
    from contrastive_cli.embeddings.files import Embeddings
    from contrastive_cli.embeddings.search.nearest_neighbors import Neighbors


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighborsRequest:
    """What was asked for.

    Attributes:
        file: What is searched.
        query: Images to look up in it.
        queries: Embeddings to look up in it; without either, it is searched for its own.
    """

    file: Path
    metric: Metric
    k: int
    query: tuple[Path, ...]
    queries: Path | None
    approximate: bool
    include_self: bool
    out: Path | None
    overwrite: bool
    space: SpaceKind | None
    run: str | None
    encoder: str | None
    weights: str | None
    device: str
    output: Output


def mine(request: NeighborsRequest) -> None:
    """Find, write and show the neighbors of all embeddings of a file, or of another's."""
    from contrastive_cli.embeddings.pieces import read_pieces
    from contrastive_cli.services.outputs import refuse_other_neighbors

    file, queries, output, metric = request.file, request.queries, request.output, request.metric
    embeddings = _searched(request)
    asked = embeddings if queries is None else _asked(queries, embeddings, output)
    if queries is not None and (both := len(set(asked.paths or ()) & set(embeddings.paths or ()) - {None, ""})):
        output.note(
            f"{both} of {len(asked.vectors)} queries have a name that {file} holds too, and may find themselves"
        )
    available = len(embeddings.vectors) - (queries is None)
    if available < 1:
        raise UsageError(f"{file} holds {len(embeddings.vectors)} embedding; neighbors need two or more")
    target = _target(request)
    refuse_other_neighbors(target, overwrite=request.overwrite, source=file, queries=queries, metric=metric)
    k = clip_k(request.k, available, output)
    zeros = sum(int((~piece.any(axis=1)).sum()) for _, piece in read_pieces(asked.vectors)) if metric == "cosine" else 0
    if zeros:
        output.note(f"warning: {zeros} of {len(asked.vectors)} vectors are zero, which have a cosine with nothing")
    found, recall = _search(request, embeddings, None if queries is None else asked, k=k)
    if not part_processes():
        return
    names, own_names = plain_names(embeddings), plain_names(asked)
    items = [own_names(row) for row in range(len(found.indices))] if output.json or is_table(target) else []
    write_found(target, embeddings, found, items, asked=asked, metric=metric, source=file, queries=str(queries or ""))
    purity = purity_of(asked, embeddings, found)
    count = len(asked.vectors)
    text = f"{target}: {k} neighbors of {count} embeddings"
    if queries is not None:
        text += f" among {len(embeddings.vectors)}"
    if purity is not None:
        text += f"; {100 * purity:.1f} % of the nearest are of the same class"
    show_first(asked, embeddings, found, metric=metric, output=output)
    value: dict[str, Any] = {"file": str(target), "count": count, "k": k, "metric": metric, "same_class": purity}
    value |= {} if recall is None else {"recall": recall}
    if output.json:
        value["neighbors"] = [
            {"item": item, "neighbors": neighbors_of(found, row, names=names, metric=metric)}
            for row, item in enumerate(items)
        ]
    output.result(value, text)


def look_up(request: NeighborsRequest) -> None:
    """Embed images as a file was embedded, and find and show their neighbors in it."""
    from contrastive_cli.embeddings.search.looked_up import nearest_others
    from contrastive_cli.services.outputs import refuse_other_neighbors

    file, output, metric, out = request.file, request.output, request.metric, request.out
    embeddings = _searched(request)
    asked_of = ", ".join(map(str, request.query))
    if out is not None:
        refuse_other_neighbors(out, overwrite=request.overwrite, source=file, queries=Path(asked_of), metric=metric)
    embedded, run = _embedded_like(request, embeddings)
    found, left_out = nearest_others(
        embeddings.vectors,
        embedded.vectors,
        names=embeddings.paths,
        queries=[] if request.include_self else [str(path.absolute()) for path in request.query],
        k=clip_k(request.k, len(embeddings.vectors), output),
        metric=metric,
    )
    if left_out:
        those = f"{left_out} of {len(request.query)} queries"
        output.note(f"{those} are in {file} and left out there; --include-self keeps them")
    if out is not None and is_seen(out):
        from contrastive_cli.services.figures.hits import write_hits

        write_hits(out, list(request.query), embeddings, found, metric=metric, file=file, run=run)
    elif out is not None:
        items = [str(path) for path in request.query]
        write_found(out, embeddings, found, items, asked=embedded, metric=metric, source=file, queries=asked_of)
    names = plain_names(embeddings)
    _show_found(request, embeddings, found)
    results = [
        {"query": str(path), "neighbors": neighbors_of(found, row, names=names, metric=metric)}
        for row, path in enumerate(request.query)
    ]
    if output.json or out is not None:
        written = {} if out is None else {"file": str(out)}
        output.result({"queries": results, "metric": metric, **written}, str(out))


def _searched(request: NeighborsRequest) -> Embeddings:
    """What is searched, in the space that was asked for."""
    from contrastive_cli.embeddings.files import read_embeddings
    from contrastive_cli.embeddings.placing import in_space

    embeddings = read_embeddings(request.file)
    for note in embeddings.notes:
        request.output.note(f"{request.file}: {note}")
    if request.space is not None and (embeddings.model or not request.query):
        return in_space(embeddings, request.space, file=request.file)
    return embeddings


def _asked(queries: Path, embeddings: Embeddings, output: Output) -> Embeddings:
    """What is looked up, in the space of what is searched."""
    from contrastive_cli.embeddings.files import read_embeddings
    from contrastive_cli.embeddings.placing import like

    asked = read_embeddings(queries)
    for note in asked.notes:
        output.note(f"{queries}: {note}")
    if not asked.model or not embeddings.model:
        return asked
    _refuse_other_maker(asked.model, embeddings.model, file=queries)
    return like(asked, embeddings, file=queries)


def _refuse_other_maker(asked: Mapping[str, Any], searched: Mapping[str, Any], *, file: Path) -> None:
    """Ask that both were made by the same encoder, from the same layer: the numbers of two encoders do not compare.

    Raises:
        UsageError: If not.
    """
    for key in ("checkpoint", "layer"):
        one, other = asked.get(key), searched.get(key)
        if one is not None and other is not None and one != other:
            made = [f"{model.get('run')} ({model.get('layer')})" for model in (asked, searched)]
            raise UsageError(
                f"the embeddings {file} were made by {made[0]}, those that are searched by {made[1]}",
                hint="embed both with the same run and layer",
            )


def _target(request: NeighborsRequest) -> Path:
    """Where mined neighbors are written, which is no file that is read."""
    of = request.queries or request.file
    target = request.out or of.with_name(f"{of.stem}-neighbors.pkl")
    for given in (request.file, of):
        if target.exists() and target.samefile(given):
            raise UsageError(f"--out {target} is an embeddings file itself", hint="give the neighbors another name")
    return target


def _search(
    request: NeighborsRequest, embeddings: Embeddings, asked: Embeddings | None, *, k: int
) -> tuple[Neighbors, float | None]:
    """The neighbors, and the recall of an approximate search."""
    vectors, queries, metric = embeddings.vectors, None if asked is None else asked.vectors, request.metric
    if request.approximate:
        from contrastive_cli.embeddings.search.approximate_search import approximate_neighbors

        nearly = approximate_neighbors(vectors, k=k, metric=metric, queries=queries)
        part = f"{100 * nearly.recall:.1f} % of the true neighbors of {nearly.checked} queries are found"
        request.output.note(f"approximate: {part}")
        return nearly.neighbors, nearly.recall
    from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors

    with request.output.counting("neighbors") as progress:
        if place().size == 1:  # which then does without torch
            return nearest_neighbors(vectors, k=k, metric=metric, queries=queries, progress=progress), None
        from contrastive_cli.services.search_peers import search_peers

        peers = search_peers()
        found = nearest_neighbors(vectors, k=k, metric=metric, queries=queries, peers=peers, progress=progress)
        return found, None


def _embedded_like(request: NeighborsRequest, embeddings: Embeddings) -> tuple[Embeddings, Run]:
    """The images that are looked up, embedded as what is searched was, and the run that does it.

    Raises:
        UsageError: If another run has made what is searched, or nothing says which.
        DataError: If an image cannot be read.
    """
    from contrastive_cli.embeddings.placing import like
    from contrastive_cli.services.inference.crops import CROPS
    from contrastive_cli.services.inference.image_files import embed_paths
    from contrastive_cli.services.inference.measured_spaces import describe
    from contrastive_cli.services.inference.model import load_model
    from contrastive_cli.services.inference.spaces import placed, placement_of

    file = request.file
    named = request.run or request.encoder or request.weights
    maker = request.run if named else maker_of(embeddings, file)
    if maker is None and not named:
        raise UsageError(f"{file} does not say which encoder made it", hint="add --run, or --encoder and --weights")
    run = chosen_run(maker, request.output, encoder=request.encoder, weights=request.weights)
    model = load_model(run, device=request.device)
    if embeddings.model.get("checkpoint") not in (None, model.checkpoint):
        raise UsageError(
            f"the embeddings were made by {embeddings.model.get('run')}, not by {run.name} as it is now",
            hint="embed again, or choose the right --run",
        )
    layer: Layer = "z" if embeddings.model.get("layer") == "z" else "h"
    crops = embeddings.model.get("crops")
    where = None
    if not embeddings.model:  # a table, or a stranger's file: it does not say what it holds
        where = placement_of(model, kind=request.space)
        layer = where.layer
        taken = f"{layer} {describe(where.kind, where.space)}"
        request.output.note(f"{file} does not say which space it holds; taken for {taken}")
    embedded, bad = embed_paths(model, request.query, layer=layer, crops=crops if crops in CROPS else 1)
    if bad:
        raise bad[0]
    return like(embedded, embeddings, file=file) if where is None else placed(embedded, where), run


def _show_found(request: NeighborsRequest, embeddings: Embeddings, found: Neighbors) -> None:
    shown_names = clean_names(embeddings)
    for row, path in enumerate(request.query):
        request.output.table(
            title=f"nearest to {path}",
            columns=["rank", "item", measure_of(request.metric)],
            rows=[
                [str(rank + 1), shown_names(int(index)), shown_distance(float(distance), request.metric)]
                for rank, (index, distance) in enumerate(zip(found.indices[row], found.distances[row], strict=True))
            ],
        )

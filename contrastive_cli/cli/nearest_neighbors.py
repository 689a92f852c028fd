"""`clr nearest-neighbors`, in short `clr knn`: the nearest embeddings of every embedding in a file, or of an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from contrastive_cli.cli.options import (
    Device,
    EncoderName,
    Json,
    Overwrite,
    Quiet,
    RunName,
    SpaceName,
    Weights,
    chosen_run,
    refuse_beside,
)
from contrastive_cli.core.choices import Layer, Metric, SpaceKind
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import SEEN, is_seen, is_table

if TYPE_CHECKING:
    from contrastive_cli.embeddings.files import Embeddings

SUFFIXES = (".pkl", ".npz", ".safetensors", ".parquet", ".csv", ".jsonl", *SEEN)


def nearest_neighbors(
    file: Annotated[
        Path, typer.Argument(help="Embeddings: .pkl, .npz, .npy, .safetensors, .parquet, .pt, .csv, .json, .h5 ...")
    ],
    metric: Annotated[Metric, typer.Option(help="How far two vectors are apart.")] = "cosine",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Neighbors of each.")] = 20,
    query: Annotated[
        list[Path] | None, typer.Option(help="Image to look up in the file; repeatable. Needs the run.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Embeddings to look up in FILE, which is then read in pieces if large.")
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Find most of them sooner, for a million or more; recall is printed.")
    ] = False,
    include_self: Annotated[
        bool, typer.Option("--include-self", help="Return an image of --query too where FILE holds it.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help=".pkl, .npz, .safetensors, .parquet, .csv or .jsonl; with --query also .html or .png with the "
            "pictures; if not given, FILE's name with -neighbors.pkl, and none for --query."
        ),
    ] = None,
    overwrite: Overwrite = False,
    space: SpaceName = None,
    run: RunName = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find nearest neighbors, exact ones unless --approximate; what is looked up is left out of its own neighbors.

    FILE stays in the space that it was embedded in, unless --space turns it; what is looked up is turned like it.

    clr knn embeddings.pkl --metric cosine

    clr knn photos.npz --query photo.jpg -k 5 --out hits.html

    clr knn million.npy --queries embeddings.pkl

    clr knn million.npy --approximate
    """
    if query and queries is not None:
        raise UsageError("--query and --queries exclude each other", hint="embed the images and give --queries FILE")
    if not query:
        options: dict[str, Any] = {"--run": run, "--encoder": encoder, "--weights": weights}
        options |= {"--device": None if device == "auto" else device, "--include-self": include_self}
        refuse_beside("a file alone, without --query", options)
    if query and approximate:
        raise UsageError("--query is searched exactly", hint="leave out --approximate")
    if out is not None and out.suffix not in SUFFIXES:
        raise UsageError(f"--out {str(out)!r} has no known suffix; known are {', '.join(SUFFIXES)}")
    if out is not None and is_seen(out) and not query:
        raise UsageError(
            f"--out {str(out)!r} shows the hits of --query", hint=f"clr plot neighbors {file} draws those of a file"
        )
    output = Output(json=json, quiet=quiet)
    from contrastive_cli.embeddings.files import read_embeddings
    from contrastive_cli.embeddings.placing import in_space
    from contrastive_cli.services.outputs import refuse_page, refuse_table

    if out is not None:
        refuse_table(out, overwrite=overwrite)
        refuse_page(out, overwrite=overwrite)
    embeddings = read_embeddings(file)
    for note in embeddings.notes:
        output.note(f"{file}: {note}")
    if space is not None and (embeddings.model or not query):
        embeddings = in_space(embeddings, space, file=file)
    if query:
        _look_up(
            embeddings,
            file,
            query,
            k=k,
            metric=metric,
            include_self=include_self,
            out=out,
            overwrite=overwrite,
            run=run,
            space=space,
            encoder=encoder,
            weights=weights,
            device=device,
            output=output,
        )
    else:
        search = _Search(k=k, metric=metric, approximate=approximate)
        _mine(embeddings, file, search, queries=queries, out=out, overwrite=overwrite, output=output)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Search:
    """What is searched for: `k` neighbors by a metric, all of them or most of them sooner."""

    k: int
    metric: Metric
    approximate: bool


def _mine(
    embeddings: Embeddings,
    file: Path,
    search: _Search,
    *,
    queries: Path | None,
    out: Path | None,
    overwrite: bool,
    output: Output,
) -> None:
    from contrastive_cli.embeddings.files import read_embeddings
    from contrastive_cli.embeddings.placing import like
    from contrastive_cli.embeddings.search.approximate_search import approximate_neighbors
    from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors as exact_neighbors
    from contrastive_cli.services.outputs import refuse_other_neighbors

    asked = embeddings if queries is None else read_embeddings(queries)
    for note in () if queries is None else asked.notes:
        output.note(f"{queries}: {note}")
    if queries is not None and asked.model and embeddings.model:
        asked = like(asked, embeddings, file=queries)
    available = len(embeddings.vectors) - (queries is None)
    if available < 1:
        raise UsageError(f"{file} holds {len(embeddings.vectors)} embedding; neighbors need two or more")
    of = queries or file
    target = out or of.with_name(f"{of.stem}-neighbors.pkl")
    for given in (file, of):
        if target.exists() and target.samefile(given):
            raise UsageError(f"--out {target} is an embeddings file itself", hint="give the neighbors another name")
    metric = search.metric
    refuse_other_neighbors(target, overwrite=overwrite, source=file, queries=queries, metric=metric)
    k = clip_k(search.k, available, output)
    zeros = int((~asked.vectors.any(axis=1)).sum()) if metric == "cosine" else 0
    if zeros:
        output.note(f"warning: {zeros} of {len(asked.vectors)} vectors are zero, which have a cosine with nothing")
    vectors, others = embeddings.vectors, None if queries is None else asked.vectors
    recall = None
    if search.approximate:
        nearly = approximate_neighbors(vectors, k=k, metric=metric, queries=others)
        found, recall = nearly.neighbors, nearly.recall
        output.note(f"approximate: {100 * recall:.1f} % of the true neighbors of {nearly.checked} queries are found")
    else:
        with output.counting("neighbors") as progress:
            found = exact_neighbors(vectors, k=k, metric=metric, queries=others, progress=progress)
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


def _look_up(
    embeddings: Embeddings,
    file: Path,
    queries: list[Path],
    *,
    k: int,
    metric: Metric,
    include_self: bool,
    out: Path | None,
    overwrite: bool,
    run: str | None,
    space: SpaceKind | None,
    encoder: str | None,
    weights: str | None,
    device: str,
    output: Output,
) -> None:
    from contrastive_cli.embeddings.placing import like
    from contrastive_cli.embeddings.search.looked_up import nearest_others
    from contrastive_cli.services.inference.crops import CROPS
    from contrastive_cli.services.inference.image_files import embed_paths
    from contrastive_cli.services.inference.measured_spaces import describe
    from contrastive_cli.services.inference.model import load_model
    from contrastive_cli.services.inference.spaces import placed, placement_of
    from contrastive_cli.services.outputs import refuse_other_neighbors

    asked_of = ", ".join(map(str, queries))
    if out is not None:
        refuse_other_neighbors(out, overwrite=overwrite, source=file, queries=Path(asked_of), metric=metric)
    maker = run if run or encoder else maker_of(embeddings, file)
    found_run = chosen_run(maker, output, encoder=encoder, weights=weights)
    model = load_model(found_run, device=device)
    if embeddings.model.get("checkpoint") not in (None, model.checkpoint):
        raise UsageError(
            f"the embeddings were made by {embeddings.model.get('run')}, not by {found_run.name} as it is now",
            hint="embed again, or choose the right --run",
        )
    layer: Layer = "z" if embeddings.model.get("layer") == "z" else "h"
    crops = embeddings.model.get("crops")
    if not embeddings.model:  # a table, or a stranger's file: it does not say what it holds
        where = placement_of(model, kind=space)
        layer = where.layer
        output.note(f"{file} does not say which space it holds; taken for {layer} {describe(where.kind, where.space)}")
    embedded, bad = embed_paths(model, queries, layer=layer, crops=crops if crops in CROPS else 1)
    if bad:
        raise bad[0]
    embedded = like(embedded, embeddings, file=file) if embeddings.model else placed(embedded, where)
    k = clip_k(k, len(embeddings.vectors), output)
    found, left_out = nearest_others(
        embeddings.vectors,
        embedded.vectors,
        names=embeddings.paths,
        queries=[] if include_self else [str(path.absolute()) for path in queries],
        k=k,
        metric=metric,
    )
    if left_out:
        output.note(f"{left_out} of {len(queries)} queries are in {file} and left out there; --include-self keeps them")
    if out is not None and is_seen(out):
        from contrastive_cli.services.figures.hits import write_hits

        write_hits(out, queries, embeddings, found, metric=metric, file=file, run=found_run)
    elif out is not None:
        items = [str(path) for path in queries]
        write_found(out, embeddings, found, items, asked=embedded, metric=metric, source=file, queries=asked_of)
    names, shown_names = plain_names(embeddings), clean_names(embeddings)
    for row, path in enumerate(queries):
        output.table(
            title=f"nearest to {path}",
            columns=["rank", "item", measure_of(metric)],
            rows=[
                [str(rank + 1), shown_names(int(index)), shown_distance(float(distance), metric)]
                for rank, (index, distance) in enumerate(zip(found.indices[row], found.distances[row], strict=True))
            ],
        )
    results = [
        {"query": str(path), "neighbors": neighbors_of(found, row, names=names, metric=metric)}
        for row, path in enumerate(queries)
    ]
    if output.json or out is not None:
        written = {} if out is None else {"file": str(out)}
        output.result({"queries": results, "metric": metric, **written}, str(out))

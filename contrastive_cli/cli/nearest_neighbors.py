"""`clr nearest-neighbors`, in short `clr knn`: the nearest embeddings of every embedding in a file, or of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.neighbor_search import NeighborsRequest, look_up, mine
from contrastive_cli.cli.options import (
    Device,
    EncoderName,
    Json,
    Overwrite,
    Quiet,
    RunName,
    SpaceName,
    Weights,
    refuse_beside,
)
from contrastive_cli.cli.processes import PROCESSES_HELP, enter_processes
from contrastive_cli.core.choices import Metric
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import SEEN, is_seen
from contrastive_cli.core.launched import place

SUFFIXES = (".pkl", ".npz", ".safetensors", ".parquet", ".csv", ".jsonl", *SEEN)


def nearest_neighbors(
    file: Annotated[
        Path,
        typer.Argument(
            help="Embeddings: .pkl, .npz, .npy, .safetensors, .parquet, .pt, .csv, .json, .h5 ..., or a folder of them."
        ),
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
    processes: Annotated[int | None, typer.Option(min=1, help=PROCESSES_HELP)] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find nearest neighbors, exact ones unless --approximate; a picture that FILE holds is none of its own.

    With --queries it is: those are taken for other pictures, and a note says how many have a name that FILE holds too.

    FILE stays in the space that it was embedded in, unless --space turns it; what is looked up is turned like it.

    clr knn embeddings.pkl --metric cosine

    clr knn photos.npz --query photo.jpg -k 5 --out hits.html

    clr knn million.npy --queries embeddings.pkl

    clr knn million.npy --processes 4

    clr knn million.npy --approximate
    """
    if query and queries is not None:
        raise UsageError("--query and --queries exclude each other", hint="embed the images and give --queries FILE")
    if not query:
        options: dict[str, Any] = {"--run": run, "--encoder": encoder, "--weights": weights}
        options |= {"--device": None if device == "auto" else device, "--include-self": include_self}
        refuse_beside("files alone, without --query", options)
    if query and approximate:
        raise UsageError("--query is searched exactly", hint="leave out --approximate")
    if out is not None and out.suffix not in SUFFIXES:
        raise UsageError(f"--out {str(out)!r} has no known suffix; known are {', '.join(SUFFIXES)}")
    if out is not None and is_seen(out) and not query:
        raise UsageError(
            f"--out {str(out)!r} shows the hits of --query", hint="write a .pkl, which `clr plot neighbors` draws"
        )
    if max(place().size, processes or 1) > 1 and (query or approximate):
        what = "--query" if query else "--approximate"
        raise UsageError(f"{what} is searched by one process", hint="leave out --processes and the launcher")
    enter_processes(processes)
    from contrastive_cli.services.outputs import refuse_page, refuse_table

    if out is not None:
        refuse_table(out, overwrite=overwrite)
        refuse_page(out, overwrite=overwrite)
    request = NeighborsRequest(
        file=file,
        metric=metric,
        k=k,
        query=tuple(query or ()),
        queries=queries,
        approximate=approximate,
        include_self=include_self,
        out=out,
        overwrite=overwrite,
        space=space,
        run=run,
        encoder=encoder,
        weights=weights,
        device=device,
        output=Output(json=json, quiet=quiet),
    )
    if query:
        look_up(request)
    else:
        mine(request)

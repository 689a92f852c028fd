"""What `clr embed` does: into a file, or into a folder of shards; the command itself is in `embed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.processes import part_processes
from contrastive_cli.core.choices import Layer, SpaceKind
from contrastive_cli.core.errors import UsageError

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run
    from contrastive_cli.data.images import BadImage
    from contrastive_cli.embeddings.files import Embeddings
    from contrastive_cli.services.inference.model import Model
    from contrastive_cli.services.inference.named_images import NamedImages
    from contrastive_cli.services.inference.spaces import Placement

SUFFIXES = (".pkl", ".npz", ".safetensors", ".parquet", ".csv", ".jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedRequest:
    """What was asked for: files where there are paths, else a split.

    Attributes:
        max_file: Bytes of vectors that go into one file; more become a folder.
    """

    run: Run
    paths: tuple[Path, ...]
    out: Path
    overwrite: bool
    max_file: int
    split: str
    layer: Layer | None
    space: SpaceKind | None
    crops: int
    dataset: str | None
    data_dir: Path | None
    download: bool
    max_bad: float | None
    labels: Path | None
    layout: str | None
    unlabeled: bool
    device: str
    output: Output


def check_out(out: Path) -> None:
    """Refuse a name that is neither that of a file of embeddings nor that of a folder."""
    if out.suffix not in SUFFIXES and not _is_folder(out):
        known = f"known are {', '.join(SUFFIXES)}, and none for a folder"
        raise UsageError(f"--out {str(out)!r} has no known suffix; {known}")


def carry_out(request: EmbedRequest) -> None:
    """Embed, write and say what was written."""
    from contrastive_cli.services.inference.model import load_model, width_of
    from contrastive_cli.services.inference.spaces import placement_of

    model = load_model(request.run, device=request.device)
    with request.output.counting("measuring the space") as progress:
        dataset = model.dataset_at(request.data_dir)
        where = placement_of(
            model,
            kind=request.space,
            layer=request.layer,
            crops=request.crops,
            dataset=dataset,
            progress=progress,
        )
    images = _named_images(request, model)
    num_bytes = 4 * images.count * width_of(model, where.layer)
    folder = request.out if _is_folder(request.out) else None
    if folder is None and num_bytes > request.max_file:
        folder = request.out.with_suffix("")
        size = f"{num_bytes / 1e6:.0f} MB are more than --max-file"
        request.output.note(f"{size}: shards go into {folder} in place of {request.out}")
    if folder is None:
        _into_file(request, model, images, where)
    else:
        _into_folder(request, folder, model, images, where)


def _is_folder(out: Path) -> bool:
    return not out.suffix or out.is_dir()


def _named_images(request: EmbedRequest, model: Model) -> NamedImages:
    from contrastive_cli.services.inference.named_images import NamedImages

    if request.paths:
        from contrastive_cli.data.sources import TreeOptions, known_layout
        from contrastive_cli.services.inference.image_files import expand_paths

        layout = known_layout(request.layout)
        options = TreeOptions(labels=request.labels, unlabeled=request.unlabeled, layout=layout)
        found = expand_paths(request.paths, options=options)
        return NamedImages(files=found.files, labels=found.labels, unused=found.unused)
    from contrastive_cli.services.inference.splits import open_split, other_dataset

    other = other_dataset(
        model,
        name=request.dataset,
        data_dir=request.data_dir,
        download=request.download,
        max_bad=request.max_bad,
        labels=request.labels,
        layout=request.layout,
        unlabeled=request.unlabeled,
    )
    with request.output.counting("embedding") as progress:
        return NamedImages(split=open_split(model, request.split, dataset=other, progress=progress))


def _into_file(request: EmbedRequest, model: Model, images: NamedImages, where: Placement) -> None:
    from contrastive_cli.embeddings.files import write_embeddings
    from contrastive_cli.services.inference.image_files import nothing_readable
    from contrastive_cli.services.inference.named_images import embed_named
    from contrastive_cli.services.inference.spaces import placed
    from contrastive_cli.services.outputs import refuse_other_embeddings

    origin = {"run": request.run.name, "layer": where.layer, "space": where.kind, "crops": request.crops}
    refuse_other_embeddings(
        request.out,
        overwrite=request.overwrite,
        origin=origin,
        dataset=images.dataset or None,
        paths=frozenset(map(str, images.files)),
    )
    with request.output.counting("embedding") as progress:
        embeddings, bad = embed_named(model, images, layer=where.layer, crops=request.crops, progress=progress)
    if embeddings is None:
        raise nothing_readable(bad)
    for error in bad:
        request.output.note(f"left out: {error.message}")
    _refuse_many(request, bad, len(embeddings.vectors))
    if not part_processes():
        return
    embeddings = placed(embeddings, where)
    write_embeddings(request.out, embeddings)
    _tell(request, request.out, embeddings, rows=len(embeddings.vectors), unreadable=len(bad), images=images)


def _refuse_many(request: EmbedRequest, bad: Sequence[BadImage], rows: int) -> None:
    if request.max_bad is None or not request.paths:
        return
    from contrastive_cli.data.bad_files import refuse_many_bad
    from contrastive_cli.data.sources import BadFile

    left_out = [BadFile(path=str(error.path), reason=error.reason) for error in bad]
    hint = "repair or remove them, or raise --max-bad"
    refuse_many_bad(left_out, len(bad) + rows, max_bad=request.max_bad, hint=hint)


def _into_folder(request: EmbedRequest, folder: Path, model: Model, images: NamedImages, where: Placement) -> None:
    from contrastive_cli.embeddings.files import read_embeddings
    from contrastive_cli.embeddings.parquet_format import libraries
    from contrastive_cli.embeddings.shard_folder import read_space
    from contrastive_cli.services.inference.embedding_shards import embed_in_shards, plan_shards

    libraries()  # without which nothing needs to be begun
    with request.output.counting("embedding") as progress:
        index = embed_in_shards(
            folder,
            model,
            images,
            where,
            plan=plan_shards(model, images, layer=where.layer, max_file=request.max_file),
            overwrite=request.overwrite,
            max_bad=request.max_bad if request.paths else None,
            progress=progress,
        )
    if not part_processes():
        return
    left_out = [bad for shard in index.shards for bad in shard.left_out]
    for bad in left_out:
        request.output.note(f"left out: {bad.path}: {bad.reason}")
    held = [shard for shard in index.shards if shard.rows]
    first = replace(read_embeddings(folder / held[0].file), space=read_space(folder, index))
    _tell(request, folder, first, rows=index.rows, unreadable=len(left_out), images=images, shards=len(held))


def _tell(
    request: EmbedRequest,
    written: Path,
    embeddings: Embeddings,
    *,
    rows: int,
    unreadable: int,
    images: NamedImages,
    shards: int | None = None,
) -> None:
    """What was written; `embeddings` are all of them, or those of one shard."""
    from contrastive_cli.embeddings.placing import kind_of
    from contrastive_cli.embeddings.shard_index import INDEX_FILE
    from contrastive_cli.services.artifacts import register_artifact
    from contrastive_cli.services.inference.measured_spaces import describe

    register_artifact(request.run, written if shards is None else written / INDEX_FILE, kind="embeddings")
    kind, width = kind_of(embeddings), embeddings.vectors.shape[1]
    layer, crops = embeddings.model["layer"], request.crops
    uncertain = embeddings.uncertainty is not None
    what = f"{layer} {describe(kind, embeddings.space)}"
    what += f", mean over {crops} pictures of each" if crops > 1 else ""
    in_shards = {} if shards is None else {"shards": shards}
    where = "" if shards is None else f" in {shards} shard{'' if shards == 1 else 's'}"
    request.output.result(
        {
            "file": str(written),
            **in_shards,
            "count": rows,
            "width": width,
            "layer": layer,
            "space": kind,
            "crops": crops,
            "run": request.run.name,
            "unreadable": unreadable,
            "not_used": images.unused,
            "uncertainty": uncertain,
        },
        f"{written}: {rows} embeddings of width {width} from {request.run.name}{where} ({what})"
        + (", with uncertainty" if uncertain else ""),
    )

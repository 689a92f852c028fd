"""What may be written over: the output of the same command on the same origin, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import ClrError, RunError
from contrastive_cli.core.files import is_seen, is_table
from contrastive_cli.embeddings.files import read_embeddings, read_neighbors
from contrastive_cli.embeddings.placing import kind_of

PAGE_START = 2000
PAGE_MARK = b'<meta name="generator" content="clr gallery">'


def refuse_table(out: Path, *, overwrite: bool) -> None:
    """Refuse to write over a .csv or .jsonl, which does not say what it is of.

    Raises:
        RunError: If it exists.
    """
    if is_table(out) and out.exists() and not overwrite:
        raise taken(out, "a table, which does not say what it is of")


def refuse_page(out: Path, *, overwrite: bool) -> None:
    """Refuse to write over an .html that is no page of ours, or a figure, which does not say what it is of.

    Raises:
        RunError: If it is another.
    """
    if overwrite or not is_seen(out) or not out.exists():
        return
    try:
        with out.open("rb") as file:
            start = file.read(PAGE_START)
    except OSError:
        start = b""
    if PAGE_MARK not in start:
        raise taken(out, "something else than a page of clr")


def refuse_other_embeddings(
    out: Path, *, overwrite: bool, origin: Mapping[str, Any], dataset: Mapping[str, Any] | None, paths: Collection[str]
) -> None:
    """Refuse to write over embeddings of another run, layer, space or set of images, or over a file of another kind.

    Args:
        out: The file that is to be written.
        overwrite: Whether anything may be written over.
        origin: The name of the run, the layer, the space (None where only the embeddings decide), the crops.
        dataset: Name and split of the data set; None for image files.
        paths: The image files where there is no data set.

    Raises:
        RunError: If the file is of another origin.
    """
    if overwrite or not out.exists() or is_table(out):
        return
    try:
        there = read_embeddings(out)
    except ClrError:
        raise taken(out, "something else than embeddings") from None
    if there.model.get("run") != origin["run"]:
        raise taken(out, f"embeddings of {there.model.get('run', 'an unknown run')}")
    if there.model.get("layer", "h") != origin["layer"]:
        raise taken(out, f"embeddings of layer {there.model.get('layer')}")
    if origin["space"] not in (None, kind_of(there)):
        raise taken(out, f"{kind_of(there)} embeddings")
    if there.model.get("crops", 1) != origin["crops"]:
        raise taken(out, f"embeddings of {there.model.get('crops', 1)} pictures of each image")
    if dataset is None:
        if there.dataset or not there.paths or there.paths[0] not in paths:
            raise taken(out, f"embeddings of {_images(there.dataset) or 'other images'}")
    elif any(there.dataset.get(name) != dataset[name] for name in ("name", "split")):
        raise taken(out, f"embeddings of {_images(there.dataset) or 'image files'}")


def refuse_other_shards(
    folder: Path, *, there: Mapping[str, Any], of: Mapping[str, Any], paths: Collection[str]
) -> None:
    """Refuse to write over shards of another run, layer, space or set of images.

    Args:
        folder: The folder that is to be written.
        there: What its index says that they are of.
        of: What they would be of.
        paths: The image files where there is no data set.

    Raises:
        RunError: If they are of another origin.
    """
    for fact in ("run", "layer", "space", "crops"):
        if there.get(fact) != of[fact]:
            raise taken(folder, f"embeddings of another {fact}: {str(there.get(fact))[:100]}")
    facts = there.get("dataset")
    dataset: Mapping[str, Any] = facts if isinstance(facts, Mapping) else {}
    is_other = any(dataset.get(name) != of["dataset"].get(name) for name in ("name", "split"))
    if is_other or (not of["dataset"] and there.get("first") not in paths):
        raise taken(folder, f"embeddings of {_images(dataset) or 'other images'}")


def refuse_other_neighbors(out: Path, *, overwrite: bool, source: Path, queries: Path | None, metric: str) -> None:
    """Refuse to write over neighbors of another file or by another metric, or over a file of another kind.

    Raises:
        RunError: If the file is of another origin.
    """
    if overwrite or not out.exists() or is_table(out) or is_seen(out):
        return
    try:
        there = read_neighbors(out)
    except ClrError:
        raise taken(out, "something else than neighbors") from None
    if not _is_same(there.source, source, out) or not _is_same(there.queries, queries, out):
        raise taken(out, f"neighbors of {there.queries or there.source or 'an unknown file'}")
    if there.metric != metric:
        raise taken(out, f"neighbors by {there.metric}")


def _is_same(there: str, given: Path | None, out: Path) -> bool:
    """Whether a name that was stored, maybe from another working directory, means the given file."""
    if given is None or not there:
        return given is None and not there
    stored = Path(there)
    if stored.is_absolute() or stored.name != given.name:
        return stored.resolve() == given.resolve()
    return stored.resolve() == given.resolve() or given.resolve().parent == out.resolve().parent


def _images(dataset: Mapping[str, Any]) -> str:
    return f"{dataset.get('name')} {dataset.get('split')}" if dataset else ""


def taken(out: Path, what: str) -> RunError:
    """The error that something else is where `out` would be written."""
    hint = "pass --overwrite to replace it, or choose another --out"
    return RunError(f"{out} exists and holds {what}", hint=hint, path=out)

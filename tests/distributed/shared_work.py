"""Embedding and searching that the processes of a pool share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_cli.core.choices import Metric
from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.search import exact_search, query_join, self_join
from contrastive_cli.embeddings.search import nearest_neighbors as knn
from contrastive_cli.services.inference import image_files
from contrastive_cli.services.inference.embedding_shards import LOCK_FILE, embed_in_shards, plan_shards
from contrastive_cli.services.inference.image_files import embed_readable
from contrastive_cli.services.inference.model import load_model
from contrastive_cli.services.inference.named_images import NamedImages
from contrastive_cli.services.inference.spaces import Placement
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.services.search_peers import search_peers

SEARCH = (
    (knn, "SELF_JOIN_ROWS"),
    (knn, "QUERIES_AT_ONCE"),
    (knn, "ROWS_PER_RANK"),
    (self_join, "TILE_ROWS"),
    (query_join, "TILE_ROWS"),
)


def embed_files(run: str, files: list[str], at_once: int) -> dict[str, Any]:
    """What every process holds in the end."""
    model = load_model(Run(Path(run)), device="cpu")
    before, image_files.FILES_AT_ONCE = image_files.FILES_AT_ONCE, at_once
    try:
        embeddings, bad = embed_readable(model, [Path(file) for file in files])
    finally:
        image_files.FILES_AT_ONCE = before
    left_out = [(error.path, error.reason) for error in bad]
    if embeddings is None:
        return {"paths": None, "bad": left_out}
    return {"vectors": embeddings.vectors.tobytes(), "paths": embeddings.paths, "bad": left_out}


def embed_shards(run: str, folder: str, *, split: str, max_file: int, kind: Any) -> dict[str, str]:
    """The sums of all files of the folder, by their names."""
    model = load_model(Run(Path(run)), device="cpu")
    images = NamedImages(split=open_split(model, split))
    plan = plan_shards(model, images, layer="h", max_file=max_file)
    embed_in_shards(
        Path(folder), model, images, Placement(kind=kind), plan=plan, overwrite=False, max_bad=None, progress=None
    )
    files = sorted(file for file in Path(folder).iterdir() if file.name != LOCK_FILE)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def search(
    table: str, queries: str | None, *, k: int, metric: Metric, sizes: tuple[int, ...], mapped: bool
) -> tuple[bytes, bytes, int]:
    """The neighbors as bytes, with small tiles, and how many rows had to be searched again slowly by this process."""
    vectors = np.load(table, mmap_mode="r" if mapped else None)
    before = [getattr(module, name) for module, name in SEARCH]
    slow, searched = exact_search.ExactSearch.slow, 0

    def counted(self: Any, rows: Any, *, k: int) -> Any:
        nonlocal searched
        searched += len(rows)
        return slow(self, rows, k=k)

    for (module, name), size in zip(SEARCH, sizes, strict=True):
        setattr(module, name, size)
    exact_search.ExactSearch.slow = counted  # type: ignore[method-assign]
    try:
        asked = None if queries is None else np.load(queries)
        found = knn.nearest_neighbors(vectors, k=k, metric=metric, queries=asked, peers=search_peers())
    finally:
        exact_search.ExactSearch.slow = slow  # type: ignore[method-assign]
        for (module, name), value in zip(SEARCH, before, strict=True):
            setattr(module, name, value)
    return found.indices.tobytes(), found.distances.tobytes(), searched

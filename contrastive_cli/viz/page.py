"""The map as one page in one file: what there is to show, as the script of the page reads it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.files import write_atomically
from contrastive_cli.viz.atlases import COLUMNS, TILES, make_atlases
from contrastive_cli.viz.embedding_map import UNLABELED, EmbeddingMap, Names
from contrastive_cli.viz.self_contained import assemble_page
from contrastive_cli.viz.theme import PALETTE

SCRIPTS: Final = ("data.js", "tiles.js", "clusters.js", "plane.js", "panel.js", "page.js")


def write_page(maps: Sequence[EmbeddingMap], path: Path) -> None:
    """Write one map, or two of the same images side by side, as a page that opens by double click.

    Args:
        maps: With neighbors. The images are the same, in one order; names, labels, columns and pictures are taken
            from the first.
        path: An .html file.

    Raises:
        RunError: If the file cannot be written.
    """
    first = maps[0]
    data = _shared(first) | {"maps": [_own(shown) for shown in maps], "columns": _columns(maps)}
    data["title"] = " and ".join(shown.source for shown in maps)
    data["caption"] = first.caption if len(maps) == 1 else f"{len(first.chosen):,} images in both"
    atlases: list[bytes] = []
    if first.thumbnails is not None and first.thumbnails.present.any():
        layout = next(iter(first.coordinates.values()))
        atlases, place = make_atlases(first.thumbnails, near=layout)
        data["tiles"] = {
            "size": first.thumbnails.size, "columns": COLUMNS, "perAtlas": TILES, "place": _packed(place, "<i4")
        }  # fmt: skip
    write_atomically(path, assemble_page("page.html", data, atlases, style="page.css", scripts=SCRIPTS))


def _shared(first: EmbeddingMap) -> dict[str, Any]:
    return {
        "named": first.paths is not None,
        "names": [f"image {index}" for index in first.chosen] if first.paths is None else list(first.paths),
        "indices": _packed(first.chosen, "<i4"),
        "palette": list(PALETTE),
        "note": first.note,
    }


def _own(shown: EmbeddingMap) -> dict[str, Any]:
    assert shown.neighbors is not None, "a page shows neighbors"
    assert shown.similarities is not None
    count = len(shown.chosen)
    return {
        "name": shown.source,
        "caption": shown.caption,
        "projections": [{"kind": kind, "points": _packed(points, "<f4")} for kind, points in shown.coordinates.items()],
        "k": shown.neighbors.shape[1],
        "neighbors": _packed(shown.neighbors, "<u4" if count > 65535 else "<u2"),
        "similarities": _packed(np.rint(shown.similarities * 10000).clip(-10000, 10000), "<i2"),
    }


def _columns(maps: Sequence[EmbeddingMap]) -> list[dict[str, Any]]:
    first = maps[0]
    columns: list[dict[str, Any]] = []
    if first.labels is not None:
        present = np.unique(first.labels[first.labels >= 0])  # labels may be any numbers, as large as they like
        names = [first.label_name(label) for label in present.tolist()]
        values = [_packed(np.where(first.labels >= 0, np.searchsorted(present, first.labels), -1), "<i4")]
        columns.append({"title": "class", "role": "class", "names": names, "values": values, "missing": UNLABELED})
    measures = {
        "uncertainty": [shown.uncertainty for shown in maps],
        "neighbor agreement": [shown.agreement() for shown in maps],
    }
    for title, found in measures.items():
        known = [np.full(len(first.chosen), np.nan) if values is None else values for values in found]
        if any(values is not None for values in found):
            columns.append({"title": title, "values": [_packed(values, "<f4") for values in known]})
    for title, column in first.columns.items():
        if isinstance(column, Names):
            packed = {"names": list(column.names), "values": [_packed(column.codes, "<i4")]}
        else:
            packed = {"values": [_packed(column.values, "<f4")]}
        columns.append({"title": title, **packed})
    if not columns:  # then one color for all
        nothing = np.full(len(first.chosen), -1)
        columns.append({"title": "nothing", "names": [], "values": [_packed(nothing, "<i4")], "missing": "all images"})
    return columns


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()

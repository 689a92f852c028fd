"""The map as a parquet table that Embedding Atlas opens. Needs the extra `parquet`.

`embedding-atlas map.parquet --x x --y y --image image --neighbors neighbors`: a picture is a struct of its bytes and
its path, neighbors are a struct of row numbers and distances (https://apple.github.io/embedding-atlas/tool.html).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.viz.embedding_map import EmbeddingMap, Names, Thumbnails

JPEG_QUALITY = 85


def write_map_table(maps: Sequence[EmbeddingMap], path: Path) -> None:
    """Write one row an image: x, y, further projections, path, class, picture, neighbors, and the other columns.

    Raises:
        UsageError: If pyarrow is not installed.
        RunError: If the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("parquet files need pyarrow", hint="install the extra `parquet`, or write .html") from None
    (shown,) = maps
    columns: dict[str, Any] = {}
    for number, (kind, points) in enumerate(shown.coordinates.items()):
        end = f"_{kind}" if number else ""
        columns |= {f"x{end}": pyarrow.array(points[:, 0]), f"y{end}": pyarrow.array(points[:, 1])}
    columns["index"] = pyarrow.array(shown.chosen)
    paths = None if shown.paths is None else [_storable(name) for name in shown.paths]
    if paths is not None:
        columns["path"] = pyarrow.array(paths, pyarrow.string())
    if shown.labels is not None:
        names = [None if label < 0 else _storable(shown.label_name(label)) for label in shown.labels.tolist()]
        columns["class"] = pyarrow.array(names, pyarrow.string())
    if shown.uncertainty is not None:
        columns["uncertainty"] = pyarrow.array(shown.uncertainty)
    if shown.thumbnails is not None:
        columns["image"] = _images(pyarrow, shown.thumbnails, paths)
    if shown.neighbors is not None and shown.similarities is not None:
        columns["neighbors"] = pyarrow.StructArray.from_arrays(
            [_lists(pyarrow, shown.neighbors), _lists(pyarrow, (1 - shown.similarities).astype(np.float32))],
            names=["ids", "distances"],
        )
    for title, column in shown.columns.items():
        if isinstance(column, Names):
            cells = [None if code < 0 else _storable(column.names[code]) for code in column.codes.tolist()]
            values = pyarrow.array(cells, pyarrow.string())
        else:
            values = pyarrow.array(column.values, mask=np.isnan(column.values))
        columns[_free(_storable(title), columns)] = values
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream, compression="zstd")
    write_atomically(path, stream.getvalue())


def _images(pyarrow: Any, thumbnails: Thumbnails, paths: Sequence[str] | None) -> Any:
    encoded = [
        _jpeg(pixels) if present else None
        for pixels, present in zip(thumbnails.pixels, thumbnails.present, strict=True)
    ]
    return pyarrow.StructArray.from_arrays(
        [
            pyarrow.array(encoded, pyarrow.binary()),
            pyarrow.array([None] * len(encoded) if paths is None else paths, pyarrow.string()),
        ],
        names=["bytes", "path"],
        mask=pyarrow.array(~thumbnails.present),
    )


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def _lists(pyarrow: Any, table: NDArray[Any]) -> Any:
    offsets = np.arange(len(table) + 1, dtype=np.int32) * table.shape[1]
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(table.ravel()))


def _storable(text: str) -> str:
    """The text in UTF-8; bytes of a name that are none become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _free(title: str, taken: dict[str, Any]) -> str:
    while title in taken:
        title += "_"
    return title

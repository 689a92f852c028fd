"""Thumbnails packed into atlases: WebP images of 32 x 32 tiles, which are far smaller than as many images alone."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.viz.embedding_map import Thumbnails

COLUMNS: Final = 32
TILES: Final = COLUMNS * COLUMNS
QUALITY: Final = 70


def make_atlases(thumbnails: Thumbnails, *, near: NDArray[np.float32]) -> tuple[list[bytes], NDArray[np.int32]]:
    """Pack the pictures, those of one region of the map together, so that a close view needs few atlases.

    Args:
        thumbnails: M pictures.
        near: [M, 2] coordinates, which say what lies together.

    Returns:
        WebP images; and for each picture its tile, counted through all atlases by rows, -1 where there is none.
    """
    order = _along_a_curve(near)
    order = order[thumbnails.present[order]]
    place = np.full(len(thumbnails.present), -1, np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    parts = [order[start : start + TILES] for start in range(0, len(order), TILES)]
    return [_encode(_tiled(thumbnails.pixels[part])) for part in parts], place


def _along_a_curve(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """The order of points along a Morton curve, [M]: neighbors in it are mostly neighbors in the plane."""
    low, high = points.min(axis=0), points.max(axis=0)
    cells = ((points - low) / np.maximum(high - low, 1e-12) * 255).astype(np.int64)  # [M, 2], 8 bits an axis
    key = np.zeros(len(points), np.int64)
    for bit in range(8):
        key |= (((cells[:, 0] >> bit) & 1) << (2 * bit)) | (((cells[:, 1] >> bit) & 1) << (2 * bit + 1))
    return np.argsort(key, kind="stable")


def _tiled(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [n, C, S, S] -> [rows * S, 32 * S, 3], the rest of the last row black."""
    size = pixels.shape[-1]
    rows = -(-len(pixels) // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, size, size, 3), np.uint8)
    sheet[: len(pixels)] = pixels.transpose(0, 2, 3, 1)  # one channel is spread over three
    grid = sheet.reshape(rows, COLUMNS, size, size, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(rows * size, COLUMNS * size, 3))


def _encode(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="WEBP", quality=QUALITY, method=4)
    return stream.getvalue()

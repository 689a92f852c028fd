"""The records of a training as series: where on the axis of the training a value stands, and the value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_progress(records: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[float, Mapping[str, Any]]]]:
    """The name of the horizontal axis, and the records with their place on it, ascending."""
    merged: dict[float, dict[str, Any]] = {}
    for number, record in enumerate(records):
        merged.setdefault(float(record.get("step", number)), {}).update(record)
    losses = [row for row in merged.values() if "train/loss" in row] or list(merged.values())
    epochs = [row.get("epoch") for row in losses]
    axis = "step" if None in epochs or len(set(epochs)) < len(epochs) else "epoch"
    rows = [(float(row.get(axis, step)), row) for step, row in merged.items() if axis == "step" or axis in row]
    return axis, sorted(rows, key=lambda row: row[0])


def series(rows: Sequence[tuple[float, Mapping[str, Any]]], *, key: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where a key has finite values, and the values."""
    pairs = [(place, float(row[key])) for place, row in rows if isinstance(row.get(key), int | float)]
    array = np.array([pair for pair in pairs if math.isfinite(pair[1])], dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]

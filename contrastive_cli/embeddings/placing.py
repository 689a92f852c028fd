"""Which space the vectors of an embeddings file are in, and turning them into the other.

A file carries the space that its vectors are in, or could be in, as the columns `space_center`, `space_axes` and
`space_spread`; `model` names it by `space` and `exponent`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import SpaceKind
from contrastive_cli.core.errors import DataError
from contrastive_cli.embeddings.space import MAX_EXPONENT, MAX_WIDTH, Space, enter_space, leave_space

if TYPE_CHECKING:
    from contrastive_cli.embeddings.files import Embeddings

PARTS = ("center", "axes", "spread")
PREFIX = "space_"


def kind_of(embeddings: Embeddings) -> SpaceKind:
    """The space that the file says its vectors are in; raw where it says nothing."""
    return "whitened" if embeddings.model.get("space") == "whitened" else "raw"


def in_space(embeddings: Embeddings, kind: SpaceKind, *, file: Path | None = None) -> Embeddings:
    """The same embeddings, which may be of a file, in the other space.

    Raises:
        DataError: If they do not carry its axes.
    """
    if kind == kind_of(embeddings) and embeddings.model:  # of others nothing says what they hold
        return embeddings
    space = embeddings.space
    if space is None:
        held = f"{kind_of(embeddings)} embeddings" if "space" in embeddings.model else "embeddings of an unknown space"
        raise DataError(
            f"{file or 'the embeddings'}: {held} that carry no axes to make them {kind}",
            hint=f"embed again: clr embed --space {kind}, as .pkl, .npz, .safetensors or .parquet",
            path=file,
        )
    turn = enter_space if kind == "whitened" else leave_space
    return replace(embeddings, vectors=turn(embeddings.vectors, space), model={**embeddings.model, "space": kind})


def like(embeddings: Embeddings, other: Embeddings, *, file: Path | None = None) -> Embeddings:
    """The embeddings in the space of `other`, whose vectors they are compared with.

    Raises:
        DataError: If that cannot be.
    """
    if kind_of(other) == "raw" or other.space is None or _same(embeddings, other):
        return embeddings if kind_of(embeddings) == kind_of(other) else in_space(embeddings, kind_of(other), file=file)
    raw = in_space(embeddings, "raw", file=file)
    return in_space(replace(raw, space=other.space), "whitened")


def _same(embeddings: Embeddings, other: Embeddings) -> bool:
    one, two = embeddings.space, other.space
    if one is None or two is None or one.exponent != two.exponent or one.width != two.width:
        return kind_of(embeddings) == kind_of(other) and one is two
    return all(np.array_equal(getattr(one, part), getattr(two, part)) for part in PARTS)


def space_columns(space: Space | None) -> dict[str, NDArray[np.float32]]:
    """The columns that carry a space."""
    return {} if space is None else {PREFIX + part: np.ascontiguousarray(getattr(space, part)) for part in PARTS}


def as_text(columns: Mapping[str, NDArray[np.float32]]) -> dict[str, str]:
    """The columns as text, for formats whose columns all have N rows: base64 of float32, little-endian."""
    return {name: base64.b64encode(array.astype("<f4").tobytes()).decode() for name, array in columns.items()}


def space_from(columns: Mapping[str, Any], model: Mapping[str, Any]) -> Space | None:
    """The space that a file of ours carries; None if it carries none.

    Raises:
        DataError: If what it carries is none.
    """
    found = {part: columns.get(PREFIX + part) for part in PARTS}
    if any(value is None for value in found.values()):
        return None
    try:
        arrays = {part: _array(value) for part, value in found.items()}
        width = arrays["center"].size
        exponent = float(model.get("exponent", -1.0))
        if 0 < width <= MAX_WIDTH and 0 <= exponent <= MAX_EXPONENT:
            return Space(**(arrays | {"axes": arrays["axes"].reshape(width, width)}), exponent=exponent)
    except (ValueError, TypeError):
        pass
    raise DataError("the axes of its space are damaged", hint="write it again")


def _array(value: Any) -> NDArray[np.float32]:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
    return np.asarray(value)

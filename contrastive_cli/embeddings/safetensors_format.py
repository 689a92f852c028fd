"""safetensors: tensors of all usual kinds, text as JSON in tensors of bytes, the rest as JSON in the header."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.pickles.arrays import upper_halves

JSON_SUFFIX = "_json"

_KINDS = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "u1",
}  # fmt: skip


def is_safetensors(data: bytes) -> bool:
    """Whether the content begins as such a file: the length of a header, and the header's brace."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def decode(data: bytes) -> dict[str, Any]:
    """The arrays of a file, and what we put into its header.

    Raises:
        DataError: If a tensor is of a kind that is not read.
        ValueError, or another error of parsing: If it is damaged.
    """
    import safetensors

    try:
        tensors = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error
    values: dict[str, Any] = {name: _array(facts, name) for name, facts in tensors}
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    for key in [key for key in values if key.endswith(JSON_SUFFIX) and values[key].dtype == np.uint8]:
        values[key.removesuffix(JSON_SUFFIX)] = json.loads(values.pop(key).tobytes())
    return values | dict(json.loads(header.get("__metadata__", {}).get("clr", "{}")))


def encode(arrays: dict[str, NDArray[Any]], texts: dict[str, list[str]], metadata: str) -> bytes:
    """The content of a file that holds our columns."""
    import safetensors.numpy

    for name, value in texts.items():  # as a tensor: the header, where metadata goes, is limited in size
        arrays[name + JSON_SUFFIX] = np.frombuffer(json.dumps(value).encode("ascii"), dtype=np.uint8)
    return bytes(safetensors.numpy.save(arrays, metadata={"clr": metadata}))


def _array(facts: dict[str, Any], name: str) -> NDArray[Any]:
    kind = str(facts["dtype"])
    if kind not in _KINDS:
        raise DataError(
            f"tensor {name!r} is of the kind {kind}, which is not read", hint="save it as float16 or float32"
        )
    numbers = np.frombuffer(facts["data"], np.dtype("<" + _KINDS[kind])).reshape(facts["shape"])
    if kind == "BF16":
        return upper_halves(numbers)
    return numbers != 0 if kind == "BOOL" else numbers.copy()

"""What a pickle may name, and how it is refused: the words that all modules of this package share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TEXT_HINT = "save it as .npz or .safetensors, which hold data only"


class RefusedError(Exception):
    """The pickle asks for something that is not data, or is malformed; the message says what."""

    def __init__(self, message: str, *, hint: str = TEXT_HINT) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Global:
    """A name that is known. It is only ever called with arguments that it checks itself."""

    name: str
    call: Callable[..., Any]

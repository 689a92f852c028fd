"""What a tracker is told: numbers of a step, results of the whole run, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import UsageError

PROJECT = "clr"  # where the library's own variables of the environment name no other


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """The run that is told of.

    Attributes:
        path: Its directory.
        key: Letters and digits by which it is found again, when it is resumed or evaluated later.
        step: How far it is; a tracker may hold later steps of an earlier attempt.
        config: Its configuration, dotted names to plain values.
    """

    path: Path
    key: str
    step: int
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.path.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracker:
    """A library that listens.

    Attributes:
        name: tensorboard, wandb, mlflow or trackio.
        scalars: Takes numbers by name, and their step.
        results: Takes numbers of the whole run, and the step they belong to.
        picture: Takes a name, an image file and the step it belongs to.
        errors: What the library raises when it cannot keep what it is told.
    """

    name: str
    scalars: Callable[[Mapping[str, float], int], None]
    results: Callable[[Mapping[str, float], int], None]
    picture: Callable[[str, Path, int], None]
    errors: tuple[type[Exception], ...] = field(default=(OSError,))


def missing(name: str) -> UsageError:
    """The library of a tracker is not installed."""
    return UsageError(f"the tracker {name} needs its extra", hint=f"pip install 'contrastive-cli[{name}]'")

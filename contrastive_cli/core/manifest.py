"""What the manifest of a run holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from contrastive_cli.core.config import Config

Status = Literal["running", "finished", "interrupted", "failed"]


def _inside(key: str) -> str:
    # A manifest may come from a stranger: it must not lead to files outside its own folder.
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise ValueError("not a path inside the run")
    return key


class Artifact(Config):
    """A complete file of the run: what it is, its size and its sha256."""

    kind: str
    bytes: int
    sha256: str
    step: int | None = None


class DatasetFacts(Config):
    """The images a run was trained on."""

    name: str
    split: str
    count: int
    fingerprint: str


class NeighborFacts(Config):
    """The mined neighbours a run was trained with; purity is the part of them that is of the same class."""

    path: str
    sha256: str
    count: int
    per_image: int
    metric: str
    fingerprint: str | None = None
    source: str = ""
    purity: float | None = None


class ParentFacts(Config):
    """The run whose encoder a finetuned run began with: its name, directory, and the checkpoint's sha256."""

    run: str
    path: str
    checkpoint: str


class EarlierLength(Config):
    """A length that a run was planned for until it was resumed with another one, and the step at which that was."""

    step: int
    total_steps: int


class Manifest(Config):
    """What `manifest.json` holds."""

    schema_version: Literal[1] = 1
    status: Status
    command: tuple[str, ...]
    method: str
    encoder: str
    dataset: DatasetFacts
    seed: int
    device: str
    precision: str
    threads: int
    total_steps: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()
    size: int
    stored_size: int | None = None
    similarity_layer: Literal["h", "z"] = "h"
    similarity_mirrored: bool = False
    step: int = 0
    seconds: float = 0.0
    neighbors: NeighborFacts | None = None
    labels: int | None = None
    parent: ParentFacts | None = None
    earlier_lengths: tuple[EarlierLength, ...] = ()
    started: str
    ended: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    git: str | None = None
    artifacts: dict[Annotated[str, AfterValidator(_inside)], Artifact] = Field(default_factory=dict)

    @property
    def decoded_size(self) -> int:
        """Side in pixels at which images are decoded, before they are resized to `size`."""
        return self.stored_size or self.size

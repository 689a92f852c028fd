"""What the manifest of a run holds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from contrastive_cli.core.choices import Average, Layer, Precision
from contrastive_cli.core.config import Config
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.pictures import BandsField, RangeField

CHECKPOINT = "checkpoint"  # the kind of artifact

Status = Literal["running", "finished", "interrupted", "failed", "imported"]


def _inside(key: str) -> str:
    # A manifest may come from a stranger: it must not lead to files outside its own folder.
    if not key or key.startswith("/") or ".." in key.split("/") or "\\" in key or "\0" in key:
        raise ValueError("not a path inside the run")
    return key


def _writable(text: object) -> object:
    # Names of files and folders may be any bytes, and JSON is UTF-8.
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(_writable)]


PositivePerChannel = tuple[Annotated[float, Field(gt=0)], ...]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]


def _ascending(plan: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    follow = all(one[0] < two[0] < one[1] for one, two in itertools.pairwise(plan))
    if plan and not (plan[0][0] == 0 and follow and all(first < total for first, total in plan)):
        raise ValueError("must be pairs of a step, the first one 0, and the steps of the whole training from there on")
    return plan


PlannedSteps = Annotated[tuple[tuple[Count, Count], ...], AfterValidator(_ascending)]


class Artifact(Config):
    """A complete file of the run: what it is, its size and its sha256."""

    kind: str
    bytes: Count
    sha256: str
    step: Count | None = None


def checkpoints_of(artifacts: Mapping[str, Artifact]) -> list[tuple[str, Artifact]]:
    """The checkpoints among a run's files, the newest first."""
    found = [(key, artifact) for key, artifact in artifacts.items() if artifact.kind == CHECKPOINT]
    return sorted(found, key=lambda pair: pair[1].step or 0, reverse=True)


def newest_checkpoint(artifacts: Mapping[str, Artifact]) -> list[str]:
    """The sha256 of the newest checkpoint; none where there is none."""
    return [artifact.sha256 for _, artifact in checkpoints_of(artifacts)][:1]


class DatasetFacts(Config):
    """The images a run was trained on; with the file that a dataset of one's own is written in, and its sha256."""

    name: str
    split: str
    count: Count
    fingerprint: str
    file: Text | None = None
    file_sha256: str | None = None


class NeighborFacts(Config):
    """The mined neighbors a run was trained with; purity is the part of them that is of the same class."""

    path: Text
    sha256: str
    count: int
    per_image: int
    metric: Text
    fingerprint: Text | None = None
    source: Text = ""
    purity: float | None = None


class ParentFacts(Config):
    """The run whose encoder a finetuned run began with: its name, directory, and the checkpoint's sha256."""

    run: Text
    path: Text
    checkpoint: str


class WeightsFacts(Config):
    """The weights that an encoder came with, or that a training began with.

    Attributes:
        source: A name, or the path of a file, folder or run; "random" for none.
        sha256: Of the file, or of the weights themselves where they have a name.
        matched: Tensors of the encoder that were found.
        missing: Those that were not, and that it can do without: counts of batches.
        left_over: Tensors of the source that are none of the encoder's, such as a classifier's.
        examples: The first names of those.
        prefix: What stands before the encoder's keys in the source.
        preprocessing: Where size, framing, mean and std come from, in words.
    """

    source: Text
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    matched: Count
    missing: tuple[Text, ...] = ()
    left_over: Count = 0
    examples: tuple[Text, ...] = ()
    prefix: Text = ""
    preprocessing: Text = ""

    def describe(self) -> str:
        """What matched, was missing and was left over, in one line."""
        text = f"{self.matched} tensors of {self.source}"
        if self.prefix:
            text += f" below {self.prefix.rstrip('.')!r}"
        text += ", none missing" + (f" but {len(self.missing)} counters of batch norms" if self.missing else "")
        shown = ", ".join(self.examples) + (", ..." if self.left_over > len(self.examples) else "")
        text += f", {self.left_over} left over ({shown})" if self.left_over else ", none left over"
        return f"{text}; sha256 {self.sha256[:12]}"


class OwnFile(Config):
    """A Python file of somebody's own that a run was made with, and its sha256."""

    path: Text
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class EarlierLength(Config):
    """A length that a run was planned for until it was resumed with another one, and the step at which that was."""

    step: Count
    total_steps: Count


class Manifest(Config):
    """What `manifest.json` holds."""

    schema_version: Literal[1] = 1
    status: Status
    command: tuple[str, ...]
    method: str
    method_file: OwnFile | None = None
    encoder: str
    dataset: DatasetFacts
    seed: Count
    device: Annotated[str, Field(pattern=r"^[a-z]{2,20}(:\d{1,3})?$")]
    precision: Precision
    threads: Annotated[int, Field(ge=1, le=1024)]
    total_steps: Count
    pace: PlannedSteps = ()
    mean: tuple[float, ...]
    std: PositivePerChannel
    range: RangeField = None
    bands: BandsField | None = None
    classes: tuple[Text, ...] = ()
    size: Count
    stored_size: Count | None = None
    framing: Framing | None = None
    weights: WeightsFacts | None = None
    similarity_layer: Layer = "h"
    similarity_average: Average = "none"
    step: Count = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    neighbors: NeighborFacts | None = None
    labels: int | None = None
    parent: ParentFacts | None = None
    earlier_lengths: tuple[EarlierLength, ...] = ()
    started: str
    ended: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    git: str | None = None
    artifacts: dict[Annotated[str, AfterValidator(_inside)], Artifact] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_a_channel(self) -> Manifest:
        possible = (1, 3) if self.bands is None else (len(self.bands),)
        if len(self.mean) not in possible or len(self.std) != len(self.mean):
            raise ValueError("mean and std must have one number per channel")
        return self

    @model_validator(mode="after")
    def _steps_or_weights(self) -> Manifest:
        if self.status == "imported" and self.weights is None:
            raise ValueError("an imported encoder must name its weights")
        if self.status != "imported" and self.total_steps < 1:
            raise ValueError("total_steps must be at least 1")
        if self.framing is not None and self.framing.resize < self.size:
            raise ValueError("framing.resize must be at least size")
        return self

    @property
    def decoded_framing(self) -> Framing | None:
        """How pictures become squares of `decoded_size` pixels; None for the rule of this package."""
        return None if self.framing is None else self.framing.scaled(self.size, to=self.decoded_size)

    @property
    def decoded_size(self) -> int:
        """Side in pixels at which images are decoded, before they are resized to `size`."""
        return self.stored_size or self.size

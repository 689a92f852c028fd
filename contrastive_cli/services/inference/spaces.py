"""The space that embeddings of a run are compared in: measured on its training images, chosen without labels, kept.

The end of a training reaches this module, and every command that embeds. See docs/space.md.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.choices import Layer, SpaceKind
from contrastive_cli.core.config import did_you_mean
from contrastive_cli.core.containment import is_inside
from contrastive_cli.core.errors import ClrError, DataError, UsageError
from contrastive_cli.core.files import sha256_of, write_atomically, write_json
from contrastive_cli.core.notes import note
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.datasets import known_dataset
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.embeddings.placing import in_space
from contrastive_cli.embeddings.space import MAX_WIDTH, Space, enter_space
from contrastive_cli.embeddings.space_file import MAX_SPACE_BYTES, RunSpaces, decode_spaces, encode_spaces
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.measured_spaces import (
    LEAST_IMAGES,
    MEASURED_IMAGES,
    describe,
    measure_spaces,
    measured_on,
)
from contrastive_cli.services.inference.model import Model
from contrastive_cli.services.inference.splits import open_split

FILE = "space.safetensors"
FACTS_FILE = "space.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where embeddings are compared: which layer, raw or in which space, over how many pictures of an image.

    Attributes:
        layer: The encoder's h or the projector's z.
        kind: Raw, or in the space; None where the images that are embedded decide, as no other are at hand.
        crops: Pictures of an image that its embedding is the mean of.
        space: That of the layer, where it is known.
    """

    layer: Layer = "h"
    kind: SpaceKind | None = "raw"
    crops: int = 1
    space: Space | None = None

    def enter(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw embeddings [N, D] as they are compared."""
        return vectors if self.kind != "whitened" or self.space is None else enter_space(vectors, self.space)


def placement_of(
    model: Model,
    *,
    kind: SpaceKind | None = None,
    layer: Layer | None = None,
    crops: int = 1,
    dataset: DatasetConfig | None = None,
    progress: CountProgress | None = None,
) -> Placement:
    """What was asked for, and of the rest what the run chose; raw is h itself unless another layer is named.

    Args:
        model: The trained model.
        kind: Raw or whitened, if that was asked for.
        layer: h or z, if that was asked for.
        crops: Pictures of an image.
        dataset: Where the training images are, if not where they were.
        progress: Called with (done, total) while a run of before is measured.

    Raises:
        UsageError: If there is no such kind or layer.
    """
    for given, known, what in ((kind, get_args(SpaceKind), "space"), (layer, get_args(Layer), "layer")):
        if given is not None and given not in known:  # Python checks no types
            raise UsageError(f"no {what} {given!r}{did_you_mean(str(given), list(known))}")
    if kind == "raw":
        spaces = kept_spaces(model)  # a raw file carries the axes too, if they are there
        layer = layer or "h"
    else:
        spaces = find_spaces(model, dataset=dataset, progress=progress)
    if spaces is None:
        return Placement(layer=layer or "h", kind=kind, crops=crops)
    chosen = layer or spaces.layer
    if kind is None:
        kind = spaces.kind
    return Placement(layer=chosen, kind=kind, crops=crops, space=spaces.layers.get(chosen))


def kept_placement(model: Model) -> Placement:
    """What the run chose and kept; raw h where it kept nothing, as nothing is measured here."""
    spaces = kept_spaces(model)
    if spaces is None:
        return Placement()
    return Placement(layer=spaces.layer, kind=spaces.kind, space=spaces.layers.get(spaces.layer))


def placed(embeddings: Embeddings, where: Placement) -> Embeddings:
    """Raw embeddings in the space of the placement; where it has none, in one that is measured on themselves.

    Raises:
        UsageError: If they are to be whitened and are too few to measure how.
    """
    space, kind = where.space, where.kind
    if space is None and kind != "raw":
        space, raw, best = measured_on(embeddings.vectors)
        if space is None and kind == "whitened":
            raise UsageError(
                f"{len(embeddings.vectors)} embeddings of {embeddings.vectors.shape[1]} numbers are too few, or too "
                f"wide, to measure a space on ({LEAST_IMAGES} or more, at most {MAX_WIDTH} numbers)",
                hint="embed more images at once, or give --space raw",
            )
        kind = kind or ("whitened" if space is not None and best > raw else "raw")
        if space is not None:
            note(f"the space was measured on the {len(embeddings.vectors)} images themselves: {describe(kind, space)}")
    if space is None:
        return embeddings
    carried = replace(embeddings, space=space, model={**embeddings.model, "exponent": space.exponent})
    return in_space(carried, kind or "raw")


def find_spaces(
    model: Model, *, dataset: DatasetConfig | None = None, progress: CountProgress | None = None
) -> RunSpaces | None:
    """The spaces that the run keeps; measured now, and kept, for a run of before; None where that cannot be."""
    kept = kept_spaces(model)
    if kept is not None or not _can_be_measured(model):
        return kept
    try:
        images = _training_images(model, dataset)
        note(f"{model.run.name} has no space yet: it is measured on {len(images)} training images")
        spaces = measure_spaces(model, images, progress=progress)
    except ClrError as error:
        note(f"{model.run.name} has no space, and none can be measured: {error.message}")
        return None
    if spaces is not None:
        with contextlib.suppress(ClrError), model.run.locked():  # a read-only run can still be used
            write_spaces(model.run, spaces)
    return spaces


def kept_spaces(model: Model) -> RunSpaces | None:
    """What the file of the run holds, if it is whole and of the checkpoint that is used."""
    file, artifact = model.run.path / FILE, model.manifest.artifacts.get(FILE)
    try:
        if artifact is None or artifact.bytes > MAX_SPACE_BYTES or not is_inside(file, model.run.path):
            return None
        if not file.is_file() or file.stat().st_size != artifact.bytes or sha256_of(file) != artifact.sha256:
            return None
        spaces = decode_spaces(file.read_bytes())
    except OSError:
        return None
    except DataError as error:
        note(f"warning: {file} is left aside: {error.message}")
        return None
    return spaces if spaces.checkpoint == model.checkpoint else None


def write_spaces(run: Run, spaces: RunSpaces) -> None:
    """Keep the spaces in the run, and what was chosen as JSON beside the other results; the caller holds the run."""
    file, facts = run.path / FILE, run.path / "eval" / FACTS_FILE
    sha256 = write_atomically(file, encode_spaces(spaces))
    run.add_artifact(file, kind="space", sha256=sha256)
    write_json(facts, spaces.facts())
    run.add_artifact(facts, kind="evaluation")


def record_spaces(model: Model) -> RunSpaces | None:
    """Measure at the end of a training; None where there is no encoder, or too little to measure."""
    if not _can_be_measured(model):
        return None
    try:
        return measure_spaces(model, _training_images(model, None))
    except DataError:  # the images went away meanwhile, which must not fail a training
        return None


def _can_be_measured(model: Model) -> bool:
    """Whether the run has an encoder, which embeds fast, and training images."""
    return hasattr(model.method, "encoder") and model.manifest.total_steps > 0 and model.manifest.dataset.count > 0


def _training_images(model: Model, dataset: DatasetConfig | None) -> NDArray[np.uint8]:
    spec = known_dataset(model.config.dataset.name)
    if spec is None:
        raise DataError(f"the file of the dataset {model.config.dataset.name} was not named by --dataset")
    images = open_split(model, spec.pretrain_split, dataset=dataset)
    if images.fingerprint != model.manifest.dataset.fingerprint:
        raise DataError(f"the images of {images.name} are not those that {model.run.name} was trained on")
    chosen = draw_positions(images.num_samples, limit=MEASURED_IMAGES, seed=0)
    return np.asarray(images.images[chosen])

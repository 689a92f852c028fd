"""The images that a command names to be embedded: a split of a data set, or files."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_cli.core.choices import Layer
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.images import BadImage
from contrastive_cli.data.scan import FolderLabels
from contrastive_cli.embeddings.files import Embeddings
from contrastive_cli.engine.device import images_per_pass
from contrastive_cli.services.inference.image_files import FILES_AT_ONCE, embed_readable
from contrastive_cli.services.inference.model import Model, Rows, embed_images


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NamedImages:
    """N images in their order.

    Attributes:
        split: A split; None for files.
        files: The files where there is no split; some may turn out to be unreadable.
        labels: Those of the files, if they have any.
        unused: Files that were found beside them and are no images.
    """

    split: ImageSet | None = None
    files: tuple[Path, ...] = ()
    labels: FolderLabels | None = None
    unused: int = 0

    @property
    def count(self) -> int:
        """N."""
        return len(self.files) if self.split is None else self.split.num_samples

    @property
    def dataset(self) -> dict[str, Any]:
        """Name and split of the data set; nothing for files."""
        return {} if self.split is None else {"name": self.split.name, "split": self.split.split}

    @property
    def digest(self) -> str:
        """What changes with the images, their order or their labels."""
        if self.split is not None:
            return self.split.fingerprint
        digest = hashlib.sha256()
        for file in self.files:
            facts = "gone"  # it is left out later, with the reason
            with contextlib.suppress(OSError):
                status = file.stat()
                facts = f"{status.st_size} {status.st_mtime_ns}"
            digest.update(os.fsencode(file) + f"\0{facts}\0".encode())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels.labels, "<i8").tobytes())
            digest.update("\0".join(self.labels.classes).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def images_at_once(model: Model, images: NamedImages) -> int:
    """Images that are cut into passes together: where a border of theirs lies, a border changes nothing."""
    return FILES_AT_ONCE if images.split is None else images_per_pass(model.device, model.manifest.size)


def embed_named(
    model: Model,
    images: NamedImages,
    *,
    rows: Rows = slice(None),
    layer: Layer = "h",
    crops: int = 1,
    progress: CountProgress | None = None,
) -> tuple[Embeddings | None, Sequence[BadImage]]:
    """Embed the images, or some of them, in their order and raw; files that cannot be read are left out and returned.

    Several processes share the work, and all of them get the whole. None if no file can be read.
    """
    if images.split is not None:
        embeddings = embed_images(model, images.split, rows=rows, layer=layer, crops=crops, progress=progress)
        return embeddings, ()
    labels = images.labels
    if labels is not None:
        labels = FolderLabels(labels=labels.labels[rows], classes=labels.classes)
    files = [images.files[number] for number in np.arange(images.count)[rows]]
    return embed_readable(model, files, labels=labels, layer=layer, crops=crops, progress=progress)

"""Mined neighbors as positives: the file that `clr knn` wrote, checked against the images it is used with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.files import sha256_of
from contrastive_cli.core.manifest import NeighborFacts
from contrastive_cli.core.types import FromNeighbors, Method
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.embeddings.files import NeighborsFile
from contrastive_cli.services.configuration import PretrainConfig

_MINE_AGAIN = "embed the images this run trains on with `clr embed --split {split}`, then `clr knn`"


@dataclass(frozen=True, kw_only=True, slots=True)
class MinedNeighbors:
    """Positions [N, K] int64 of the neighbors of every image, never the image itself, and what is known of them."""

    indices: Tensor
    facts: NeighborFacts

    def describe(self) -> str:
        """One line for the log."""
        facts = self.facts
        text = f"neighbors: {facts.per_image} of each image by {facts.metric}, from {facts.path}"
        if facts.purity is not None:
            text += f"; {100 * facts.purity:.1f} % of them are of its class"
        if facts.fingerprint is None:
            text += "; the file does not say of which images it is, only their number was checked"
        return text


def check_wanted(method: Method, config: PretrainConfig) -> None:
    """Ask that neighbors are given exactly where the method shows them.

    Raises:
        UsageError: If they are given and not wanted, or wanted and not given.
    """
    wanted = isinstance(method, FromNeighbors) and any(method.neighbor_views)
    if wanted and config.neighbors is None:
        raise UsageError(
            f"{config.method_name} takes neighbors as positives here, and there is no --neighbors FILE",
            hint="clr embed --split train --out embeddings.pkl; clr knn embeddings.pkl --metric cosine; "
            f"clr pretrain --method {config.method_name} --neighbors embeddings-neighbors.pkl ...",
        )
    if config.neighbors is not None and not wanted:
        able = isinstance(method, FromNeighbors)
        raise UsageError(
            f"--neighbors {config.neighbors} would be ignored: {config.method_name} shows no neighbors"
            + (" as it is set" if able else ""),
            hint="add --set method.positives=neighbor or --set method.positives=mix"
            if able
            else "leave it out, or take --method byol",
        )


def neighbors_of(images: ImageSet, file: NeighborsFile, *, path: Path) -> MinedNeighbors:
    """The neighbors of `images` from a file read from `path`, an image that is its own neighbor left out.

    The file fits images of its fingerprint, and images of the same names: neighbors that were found on pictures of one
    size are neighbors at every size.

    Raises:
        DataError: If the file is of other images, or of other positions than there are.
    """
    hint = _MINE_AGAIN.format(split=images.split)
    given = file.indices
    if file.queries:
        raise DataError(f"{path} has neighbors of {file.queries} in another set", hint=hint, path=path)
    if len(given) != images.num_samples:
        raise DataError(
            f"{path} has neighbors of {len(given)} images, but {images.name} {images.split} has {images.num_samples}",
            hint=hint,
            path=path,
        )
    fingerprint = file.dataset.get("fingerprint")
    same_files = file.paths == images.paths and file.dataset.get("split") == images.split  # at another size, say
    if fingerprint not in (None, images.fingerprint) and not same_files:
        of = " ".join(str(file.dataset[key]) for key in ("name", "split") if key in file.dataset) or "other images"
        raise DataError(
            f"{path} is of {of} with fingerprint {str(fingerprint)[:12]}, but {images.name} {images.split} has "
            f"{images.fingerprint[:12]} at {images.size} px",
            hint=hint,
            path=path,
        )
    if given.min() < 0 or given.max() >= images.num_samples:
        wrong = given.min() if given.min() < 0 else given.max()
        raise DataError(f"{path} names position {wrong} of {images.num_samples} images", hint=hint, path=path)
    indices = without_self(given)
    if indices.shape[1] == 0:
        raise DataError(f"{path} names an image as its only neighbor", hint="mine again with a larger -k", path=path)
    facts = NeighborFacts(
        path=str(path),
        sha256=sha256_of(path),
        count=len(indices),
        per_image=indices.shape[1],
        metric=file.metric,
        fingerprint=None if fingerprint is None else str(fingerprint),
        source=file.source,
        purity=purity(indices, images.labels) if images.has_labels else None,
    )
    return MinedNeighbors(indices=torch.from_numpy(indices.copy()), facts=facts)


def without_self(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave each row's own position out of [N, K]; rows keep their order, and all the same length.

    Returns:
        [N, K - m] where m is how often a row names itself at most.
    """
    own = indices == np.arange(len(indices))[:, None]
    if not own.any():
        return indices
    order = np.argsort(own, axis=1, kind="stable")  # a row's own position goes to its end
    kept = indices.shape[1] - int(own.sum(axis=1).max())
    return np.ascontiguousarray(np.take_along_axis(indices, order, axis=1)[:, :kept])


def purity(indices: NDArray[np.int64], labels: NDArray[np.int64]) -> float | None:
    """The part of the neighbors [N, K] that are of their image's class, where both labels [N] are known (not -1)."""
    anchors, others = np.broadcast_to(labels[:, None], indices.shape), labels[indices]
    known = (anchors >= 0) & (others >= 0)
    return float((anchors == others)[known].mean()) if known.any() else None


def refuse_other_neighbors(now: MinedNeighbors | None, then: NeighborFacts | None) -> None:
    """Ask that a resumed run has the neighbors it was started with.

    Raises:
        DataError: If the file has changed.
    """
    if now is not None and then is not None and now.facts.sha256 != then.sha256:
        raise DataError(
            f"{now.facts.path} is not the file that the run was started with: sha256 {now.facts.sha256[:12]}, "
            f"then {then.sha256[:12]}",
            hint="bring the old file back, or start a new run",
            path=now.facts.path,
        )

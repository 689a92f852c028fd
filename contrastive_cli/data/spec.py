"""What a dataset is: the contract of the files in `data/entries`, and of a file of one's own that `--dataset` names.

Such a file ends with `DATASET = DatasetSpec(...)`. The way of an image: `DatasetSpec.open(SplitRequest)` finds the
files and returns a `Source`; its `load()` returns `Samples`, which decode one by one into the cache, an `ImageSet`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contrastive_cli.data.images import Channels
from contrastive_cli.data.sources import Source, SplitRequest

SMALL_IMAGE = 64  # up to this side, the recipe of CIFAR-sized images
RECIPES_BY_SIZE = ("simclr-small", "simclr")


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """One dataset.

    Attributes:
        name: On the command line and in file names: lower-case letters, digits and hyphens.
        help: One line.
        native_size: Side of its images in pixels; None if they differ.
        size: Side they are stored with unless another is asked for.
        recipe: Name of the augmentation recipe at that size.
        classes: By label; None if they are read off folders.
        pretrain_split: The split that pretraining uses.
        identity_split: The split of other classes than those trained on, where similarity is judged; None if none is.
        open: Finds a split below the data directory; None if it is not there.
        folder: Whether a data directory must be given, is not used, or is ./data if it is not given.
        fetch: Downloads and unpacks all splits below a folder; None if there is nothing to download.
        class_noun: What a class is.
        class_plural: Several of them.
        places: Where below the data directory its files may lie, for the message that they do not.
        what: What else can be given as data directory.
        has_bands: Whether bands of its pictures can be chosen.
    """

    name: str
    help: str
    channels: Channels
    native_size: int | None = None
    size: int
    recipe: str = "simclr"
    classes: tuple[str, ...] | None = None
    splits: tuple[str, ...] = ("train", "test")
    pretrain_split: str = "train"
    identity_split: str | None = None
    open: Callable[[SplitRequest], Source | None]
    folder: Literal["none", "needed", "optional"] = "optional"
    fetch: Callable[[Path], None] | None = None
    class_noun: str = "class"
    class_plural: str = "classes"
    places: tuple[str, ...] = ()
    what: str = ""
    has_bands: bool = False

    def recipe_at(self, size: int) -> str:
        """Name of the augmentation recipe for images of that side."""
        if self.recipe not in RECIPES_BY_SIZE:
            return self.recipe
        return "simclr-small" if size <= SMALL_IMAGE else "simclr"

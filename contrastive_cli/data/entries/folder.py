"""Pictures of one's own: any folder tree. docs/folders.md says what it may look like."""

from __future__ import annotations

from contrastive_cli.data.sources import Source, SplitRequest
from contrastive_cli.data.spec import DatasetSpec
from contrastive_cli.data.trees import tree_source


def open_folder(request: SplitRequest) -> Source:
    """A split of the folder."""
    return tree_source(request, root=request.data_dir)


DATASET = DatasetSpec(
    name="folder",
    help="your own images: any folder tree, classes are its sub-folders; train/, val/, test/ are splits, "
    "else a fifth of each class is kept out as test",
    channels=3,
    native_size=None,
    size=96,
    recipe="simclr",
    classes=None,
    splits=("train", "val", "test", "all"),
    folder="needed",
    has_bands=True,
    open=open_folder,
)

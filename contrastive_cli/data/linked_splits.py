"""Splits that are links into a folder which holds everything: they keep their pictures."""

from __future__ import annotations

import os
from pathlib import Path

from contrastive_cli.data.layout import split_of
from contrastive_cli.data.scan import Scan, scan_tree


def with_linked_splits(scan: Scan, root: Path) -> list[Path]:
    """All pictures; in a split's folder also those of folders that are linked to and were listed elsewhere.

    Splits are often links into a folder that holds everything. Elsewhere such a link is the same picture twice.
    """
    again = {_split_folder(path, root) for path in scan.linked_again} - {None}
    found = {os.fspath(file) for file in scan.files}
    for folder in again:
        if folder is not None and folder != root:
            found |= {os.fspath(file) for file in scan_tree(folder).files}
    return [Path(path) for path in sorted(found)] if again else scan.files


def _split_folder(path: Path, root: Path) -> Path | None:
    """The folder of a split that a path lies in."""
    below = root
    for name in path.relative_to(root).parts:
        below = below / name
        if split_of(name) is not None:
            return below
    return None

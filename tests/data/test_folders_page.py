"""The rows of docs/folders.md, each made as a folder of pictures and read."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.trees import Tree, describe_splits, read_tree, split_tree

PAGE = Path(__file__).parents[2] / "docs" / "folders.md"
SEEN = {
    "two folders can be the split val": "can both be the split val",
    "names can be a split or a class": "can be a split or a class",
    "all folders hold the same folders": "all of them hold",
    "kinds of files, not classes": "kinds of files, not classes",
}


def rows(columns: int) -> list[list[str]]:
    """The cells of the page's tables with as many columns, without their headers."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == columns]


def expand(text: str) -> list[str]:
    """`a/{b,c}/` -> a/b/, a/c/."""
    parts = [part.split(",") for part in re.split(r"[{}]", text)]
    return ["".join(choice) for choice in itertools.product(*parts)]


def make(root: Path, notation: str) -> None:
    generator = np.random.default_rng(0)
    for name in itertools.chain.from_iterable(expand(word) for word in notation.strip("`").split()):
        path = root / name
        if not name.endswith("/"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
            continue
        path.mkdir(parents=True, exist_ok=True)
        for number in range(5):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / f"{number}.png")


def read_as(tree: Tree) -> tuple[str, set[str]]:
    """Classes and splits as the page writes them."""
    reading = describe_splits(tree, split_tree(tree, seed=0))
    splits = set()
    for name, split in reading.splits.items():
        source = split.source.removeprefix("from ").removesuffix("/")
        splits.add(f"{name} (held out)" if "held out" in source else f"{name}: {source}" if source else name)
    return ", ".join(reading.classes) or "none", splits


@pytest.mark.parametrize(("notation", "classes", "splits"), rows(3))
def test_read_tree__is_what_the_page_says(tmp_path: Path, notation: str, classes: str, splits: str) -> None:
    make(tmp_path, notation)
    assert read_as(read_tree(tmp_path)) == (classes, set(splits.split(", ")))


@pytest.mark.parametrize(("notation", "reason"), rows(2))
def test_read_tree__stops_where_the_page_says(tmp_path: Path, notation: str, reason: str) -> None:
    make(tmp_path, notation)
    with pytest.raises(DataError, match=SEEN[reason]) as caught:
        read_tree(tmp_path)
    assert caught.value.hint is not None


def test_page__has_the_rows() -> None:
    assert len(rows(3)) > 20
    assert {row[1] for row in rows(2)} == SEEN.keys()

"""How a folder was read, in words: the classes, the splits and where they come from, and what is not used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contrastive_cli.data.kinds import describe_kinds
from contrastive_cli.data.scan import RUN_OF_CLR, Unused

MOST_CLASSES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitReading:
    """The pictures of a split.

    Attributes:
        count: Pictures, before any is decoded.
        labeled: Those in a class.
        source: Where they come from, in words.
    """

    count: int
    labeled: int
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a folder was read.

    Attributes:
        root: The folder that was given.
        base: The folder below it that holds the splits or classes, after folders that hold one folder only.
        folders: Names of the class folders, of which one alone is no class.
        classes: The classes, by label.
        labels: The file that labels come from, if it is not the folders.
        taken: Whether labels are taken at all.
        splits: The splits by name.
        note: What else is to be known.
        unused: Files that are not used, and why.
    """

    root: Path
    base: str = ""
    folders: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    labels: Path | None = None
    taken: bool = True
    splits: Mapping[str, SplitReading] = field(default_factory=dict)
    note: str = ""
    unused: tuple[Unused, ...] = ()

    @property
    def lines(self) -> list[str]:
        """One line how the folder was read, and one line what is not used, if there is anything."""
        unused = self.describe_unused()
        return [self.describe(), *([unused] if unused else [])]

    def describe(self) -> str:
        """The classes and splits in one line."""
        through = f" (through {self.base}/)" if self.base else ""
        splits = ", ".join(_describe_split(name, split) for name, split in self.splits.items())
        text = f"{os.fspath(self.root)}{through}: {self._classes()}; {splits}"
        return f"{text}; {self.note}" if self.note else text

    def describe_unused(self) -> str:
        """What is not used, counted by kind; empty if everything is."""
        if not self.unused:
            return ""
        kinds = dict(Counter(other.kind for other in self.unused))
        folders = sum(count for kind, count in kinds.items() if kind == RUN_OF_CLR or kind.endswith("/"))
        files = len(self.unused) - folders
        what = [_counted(count, noun) for count, noun in ((files, "file"), (folders, "folder")) if count]
        return f"not used in {os.fspath(self.root)}: {' and '.join(what)} ({describe_kinds(kinds)})"

    def why_no_labels(self, split: str) -> str:
        """Why a split has no labels."""
        found = self.splits.get(split)
        count = sum(part.count for part in self.splits.values())
        where = os.fspath(self.root / self.base)
        if not self.taken:
            return "none are taken (--unlabeled)"
        if self.labels is not None:
            return f"{self.labels} names no two classes of its pictures"
        if self.classes and found is not None and found.source:
            return f"the {found.count} pictures {found.source} lie in no folder of a class"
        if len(self.folders) == 1:
            return f"there is one class only, {self.folders[0]} ({count} pictures in {where})"
        if any(part.source.startswith("from ") for part in self.splits.values()):
            return "the folders of the splits hold no folders of classes"
        if self.folders:
            return f"of the folders {listed(self.folders)} only one has a picture that can be decoded"
        return f"all {count} pictures lie in one folder, {where}"

    def _classes(self) -> str:
        if not self.taken:
            return "labels are not taken"
        if not self.classes:
            return f"no labels ({self.why_no_labels('')})"
        shown = listed(self.classes)
        source = "" if self.labels is None else f" of {self.labels.name}"
        return f"{len(self.classes)} classes{source} ({shown})"


LABELS_HINT = (
    "put the pictures of each class into a folder of their own, with --data-dir the folder above them, or name the "
    "classes by --labels FILE.csv (path,label)"
)


def listed(names: Sequence[str]) -> str:
    """The first ten names."""
    more = f", ... {len(names) - MOST_CLASSES} more" if len(names) > MOST_CLASSES else ""
    return ", ".join(names[:MOST_CLASSES]) + more


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _describe_split(name: str, split: SplitReading) -> str:
    pictures = _counted(split.count, "picture")
    text = pictures if name == "all" else f"{name} {pictures}"
    if split.source:
        text += f" {split.source}"
    if split.labeled == 0 and name != "all":
        return f"{text}, without labels"
    return text if split.labeled == split.count else f"{text}, {split.count - split.labeled} without label"

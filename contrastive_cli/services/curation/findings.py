"""What a check can find, in the order in which it matters, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from contrastive_cli.services.curation.pictures import Pictures

Kind = Literal[
    "leak", "conflict", "unreadable", "label", "exact", "near", "outlier",
    "dark", "bright", "empty", "blurred", "aspect", "size", "color", "balance",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that is looked for: its heading, what it means, and what its value is."""

    title: str
    meaning: str
    value: str = ""
    noun: str = "picture"
    is_fault: bool = False


CHECKS: Final[dict[Kind, Check]] = {
    "leak": Check(
        title="The same picture in two splits",
        meaning="It is trained on and tested on, so the measured accuracy is too good. Remove it from one of them.",
        value="similarity",
        noun="held-out picture",
        is_fault=True,
    ),
    "conflict": Check(
        title="One picture, several classes",
        meaning="Equal or nearly equal pictures carry different labels. At most one of them is right.",
        value="similarity",
        noun="group",
        is_fault=True,
    ),
    "unreadable": Check(
        title="Cannot be read", meaning="Such a file is left out of a training.", noun="file", is_fault=True
    ),
    "label": Check(
        title="Probably a wrong label",
        meaning="The nearest pictures, its own duplicates left out, agree on another class. Most doubtful first.",
        value="part of the vote for the other class",
        is_fault=True,
    ),
    "exact": Check(
        title="Equal pictures",
        meaning="Pixel by pixel the same. They count several times in a training.",
        noun="group",
    ),
    "near": Check(
        title="Nearly equal pictures",
        meaning="In a group every two are at least as similar as the threshold. Nearest first.",
        value="least similarity to the rest of its group",
        noun="group",
    ),
    "outlier": Check(
        title="Unlike all others",
        meaning="Far from its nearest pictures. It may not belong to the dataset.",
        value="mean similarity to the five nearest",
    ),
    "dark": Check(title="Dark", meaning="19 of 20 pixels are darker than the value.", value="luma, 0 to 1"),
    "bright": Check(title="Overexposed", meaning="19 of 20 pixels are brighter than the value.", value="luma, 0 to 1"),
    "empty": Check(title="Little to see", meaning="Hardly any contrast or detail.", value="contrast, 0 to 0.5"),
    "blurred": Check(
        title="Blurred",
        meaning="Even its sharpest parts are soft, beside most pictures here. It may also have been enlarged.",
        value="sharpness",
    ),
    "aspect": Check(
        title="Long and narrow",
        meaning="A training sees the center square, which is less than a third of it.",
        value="shorter side / longer side",
    ),
    "size": Check(
        title="Odd sizes",
        meaning="The shorter side is less than a quarter, or more than four times, that of the median.",
        value="pixels of the shorter side",
    ),
    "color": Check(
        title="Gray among colors, or colors among gray",
        meaning="No fault by itself; but where it goes with a class, a network learns to look for it.",
        value="colorfulness, 0 to 1",
    ),
    "balance": Check(
        title="Classes out of balance",
        meaning="Few pictures, or none in a split, or none with a label.",
        value="pictures",
        noun="class",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One picture in one list.

    Attributes:
        kind: Which list.
        group: Number of the group within the list, from 1; pictures of one group belong together.
        picture: Its number among the pictures; -1 where the finding is about a class or a folder.
        path: Its name.
        split: Its split.
        label: The name of its class, or empty.
        value: What `Check.value` says; None where there is none.
        note: What else there is to say.
    """

    kind: Kind
    group: int
    picture: int
    path: str
    split: str
    label: str
    value: float | None
    note: str = ""


def finding_of(
    pictures: Pictures, index: int, *, kind: Kind, group: int, value: float | None, note: str = ""
) -> Finding:
    """A finding about one picture."""
    return Finding(
        kind=kind,
        group=group,
        picture=index,
        path=pictures.names[index],
        split=pictures.split[index],
        label=pictures.class_of(index),
        value=value,
        note=note,
    )


def of_kind(findings: Sequence[Finding], kind: Kind) -> list[Finding]:
    """The findings of one list, in order."""
    return [finding for finding in findings if finding.kind == kind]


def count_of(findings: Sequence[Finding], kind: Kind) -> int:
    """How many groups of that kind there are; where each picture is a group, how many pictures."""
    return len({finding.group for finding in findings if finding.kind == kind})

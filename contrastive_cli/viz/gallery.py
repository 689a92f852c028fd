"""Pictures in lists and groups, tables and a heat map, as one page in one file: of a data check, hits, similarities."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.files import write_atomically
from contrastive_cli.viz.atlases import COLUMNS, TILES, make_atlases
from contrastive_cli.viz.embedding_map import Thumbnails
from contrastive_cli.viz.self_contained import assemble_page

SCRIPTS: Final = ("gallery.js",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A picture with its name and what is said below it; `tile` counts the thumbnails, -1 for none.

    A card is marked right, wrong or neither.
    """

    tile: int
    name: str
    lines: tuple[str, ...] = ()
    mark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Pictures that belong together; or one, where the list has no groups."""

    number: int
    heading: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A list of pictures.

    Attributes:
        kind: Its name in the address of the page.
        title: Its heading.
        count: How many of what.
        text: What it means.
        is_fault: Whether it should be looked at first.
        in_groups: Whether its rows are groups of several pictures.
        rows: In order.
    """

    kind: str
    title: str
    count: str
    text: str
    is_fault: bool
    in_groups: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of text; with `bars` all columns but the first are numbers drawn as bars."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeatMap:
    """Values [N, N] of every two of N pictures, from `low` to `high`."""

    cards: tuple[Card, ...]
    values: NDArray[np.float64]
    low: float
    high: float
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gallery:
    """All that the page shows.

    Attributes:
        title: Heading of the page.
        lines: What it is of.
        tables: Beside the lists.
        sections: The lists.
        clean: Lists that are empty, by their titles.
        command: A command to copy; may be empty.
        reasons: Why that command.
        thumbnails: The pictures of the cards.
        heat_map: Of every two pictures.
    """

    title: str
    lines: tuple[str, ...]
    thumbnails: Thumbnails
    tables: tuple[Table, ...] = ()
    sections: tuple[Section, ...] = ()
    clean: tuple[str, ...] = ()
    command: str = ""
    reasons: tuple[str, ...] = ()
    heat_map: HeatMap | None = None


def write_gallery(gallery: Gallery, path: Path) -> None:
    """Write the page, which opens by double click.

    Raises:
        RunError: If the file cannot be written.
    """
    data: dict[str, Any] = {
        "title": gallery.title,
        "lines": gallery.lines,
        "tables": [
            {"title": table.title, "columns": table.columns, "rows": table.rows, "bars": table.bars}
            for table in gallery.tables
        ],
        "sections": [_section(section) for section in gallery.sections],
        "clean": gallery.clean,
        "command": gallery.command,
        "reasons": gallery.reasons,
        "heatMap": None if gallery.heat_map is None else _heat_map(gallery.heat_map),
        "tiles": None,
    }
    atlases: list[bytes] = []
    if gallery.thumbnails.present.any():
        count = len(gallery.thumbnails.present)
        in_order = np.stack([np.arange(count), np.zeros(count)], axis=1).astype(np.float32)
        atlases, place = make_atlases(gallery.thumbnails, near=in_order)
        packed = base64.b64encode(place.astype("<i4").tobytes()).decode()
        data["tiles"] = {
            "size": gallery.thumbnails.size, "columns": COLUMNS, "perAtlas": TILES, "place": packed
        }  # fmt: skip
    write_atomically(path, assemble_page("gallery.html", data, atlases, style="gallery.css", scripts=SCRIPTS))


def _section(section: Section) -> dict[str, Any]:
    return {
        "kind": section.kind,
        "title": section.title,
        "count": section.count,
        "text": section.text,
        "fault": section.is_fault,
        "grouped": section.in_groups,
        "rows": [[row.number, row.heading, _cards(row.cards)] for row in section.rows],
    }


def _cards(cards: Sequence[Card]) -> list[list[Any]]:
    return [[card.tile, _plain(card.name), [_plain(line) for line in card.lines], card.mark] for card in cards]


def _plain(text: str) -> str:
    """Names of files may hold bytes that are no text; JSON carries them, a page shows a replacement."""
    return text.encode("utf-8", "replace").decode()


def _heat_map(heat_map: HeatMap) -> dict[str, Any]:
    return {
        "cards": _cards(heat_map.cards),
        "values": [[round(float(value), 4) for value in row] for row in heat_map.values],
        "low": heat_map.low,
        "high": heat_map.high,
        "threshold": heat_map.threshold,
    }

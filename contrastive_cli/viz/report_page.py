"""The report as one page in one file, to read and to print: pictures, figures and style are inside, and no script.

The content policy forbids every request and every script. All text is escaped by the template.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.files import write_atomically
from contrastive_cli.viz.self_contained import page_template
from contrastive_cli.viz.theme import themed

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_TYPES: Final = {".svg": "image/svg+xml", ".webp": "image/webp"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """A paragraph."""

    kind: ClassVar[str] = "sentence"
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Cells under their headings; those from the second column on are numbers, unless it is `wordy`."""

    kind: ClassVar[str] = "table"
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wordy: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """Commands to type."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """A part that is not there, and the command that adds it."""

    kind: ClassVar[str] = "missing"
    what: str
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A picture as a data address, a line below it, and whether it is right, wrong or the one that is asked about."""

    picture: str
    text: str = ""
    mark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """Pictures in a row under a heading; `size` is their side on the page in pixels.

    The row breaks where it must, or, where it does not wrap, its pictures become smaller.
    """

    kind: ClassVar[str] = "strip"
    title: str
    tiles: tuple[Tile, ...]
    size: int = 56
    wraps: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure, for a light and a dark page, as data addresses, and what it shows in words."""

    kind: ClassVar[str] = "drawing"
    light: str
    dark: str
    alt: str


Block = Sentence | Table | Code | Missing | Strip | Drawing


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What one run has to say in a section; without a name it is what all of them have."""

    name: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the report, its columns side by side where there is room."""

    anchor: str
    title: str
    explained: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What the page shows, from the top on; the verdicts are one a run."""

    title: str
    subtitle: str
    verdicts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]

    @property
    def missing(self) -> list[Missing]:
        """The parts that are not there, each once."""
        blocks = (block for section in self.sections for column in section.columns for block in column.blocks)
        return list(dict.fromkeys(block for block in blocks if isinstance(block, Missing)))


def write_report(report: Report, path: Path) -> None:
    """Write the report as an .html file.

    Raises:
        RunError: If the file cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = plain
    environment.filters["breakable"] = breakable
    template = environment.from_string(page_template("report.html"))
    text = template.render(report=report, style=page_template("report.css"), policy=POLICY)
    write_atomically(path, text.encode("utf-8"))


def plain(text: str) -> str:
    """The text without control characters, without what turns the direction of reading, and with whole letters."""
    kept = "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return kept.encode("utf-8", "replace").decode()


def breakable(text: str) -> str:
    """The text with places where a line may end: names of classes and files are long words below small pictures."""
    return re.sub(r"([_/.-])(?=\w)", "\\1\N{ZERO WIDTH SPACE}", text)


def draw(figure: Callable[[Path], object], *, alt: str, suffix: str = ".svg") -> Drawing:
    """A figure in both themes; `figure` writes it to the path that it is given."""
    found = []
    with TemporaryDirectory() as folder:
        for kind in ("light", "dark"):
            path = Path(folder) / f"{kind}{suffix}"
            with themed("dark" if kind == "dark" else "light"):
                figure(path)
            found.append(_address(path.read_bytes(), _TYPES[suffix]))
    return Drawing(light=found[0], dark=found[1], alt=alt)


def tiles(
    pixels: NDArray[np.uint8], *, texts: Sequence[str] | None = None, marks: Sequence[str] | None = None
) -> tuple[Tile, ...]:
    """Pictures uint8 [N, C, H, W] of 1 or 3 channels as tiles."""
    return tuple(
        Tile(
            picture=_address(_encoded(image), "image/webp"),
            text="" if texts is None else texts[number],
            mark="" if marks is None else marks[number],
        )
        for number, image in enumerate(pixels)
    )


def _encoded(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    shown: Any = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    Image.fromarray(shown).save(stream, format="WEBP", quality=80, method=4)
    return stream.getvalue()


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"

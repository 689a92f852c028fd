"""What all figures share: one look, colors anyone can tell apart, names that cannot break a figure, atomic files.

No pyplot: figures have no global state and need no display. Equal input gives equal bytes, PNG and SVG.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Petroff, "Accessible color sequences for data visualization", 2021, https://arxiv.org/abs/2107.02270 (ten colors);
# chosen to stay apart in the common color-vision deficiencies.
PALETTE: Final = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
INK: Final = "#222222"
FAINT: Final = "#767676"
RULE: Final = "#d4d4d4"

_FONT: Final = "DejaVu Sans"  # ships with matplotlib, so figures look the same everywhere
_STYLE: Final = {
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.grid": False,
    "axes.labelcolor": FAINT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "font.family": _FONT,
    "font.size": 9.0,
    "grid.color": "#ececec",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.facecolor": "white",
    "svg.hashsalt": "clr",  # else the ids in an SVG are random
    "text.color": INK,
    "xtick.color": RULE,
    "xtick.labelcolor": FAINT,
    "ytick.color": RULE,
    "ytick.labelcolor": FAINT,
}
_DPI: Final = 160
HEADING_INCHES: Final = 0.7  # what `heading` takes at the top


@contextmanager
def drawing(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure of a size in inches; on leaving, write it to `path`, whole or not at all.

    Raises:
        UsageError: If the suffix of `path` is neither .png nor .svg.
        RunError: If the file cannot be written.
    """
    file_format = path.suffix.lower().removeprefix(".")
    if file_format not in ("png", "svg"):
        raise UsageError(f"cannot draw {path.name!r}: figures are .png or .svg", path=path)
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context(["default", dict(_STYLE)]):  # not the user's matplotlibrc
        figure = Figure(figsize=(width, height), dpi=_DPI)
        FigureCanvasAgg(figure)
        yield figure
        content = io.BytesIO()
        metadata = {"Date": None} if file_format == "svg" else {"Software": None}
        figure.savefig(content, format=file_format, dpi=_DPI, metadata=metadata)
    write_atomically(path, content.getvalue())


def heading(figure: Figure, *, title: str, caption: str = "") -> None:
    """Write the title at the top left and, small, what and how below it."""
    width, height = figure.get_size_inches()
    left = 0.2 / width
    figure.text(
        left, 1 - 0.16 / height, safe_text(title, limit=int(9.0 * width)),
        fontsize=12.5, fontweight="bold", va="top", ha="left",
    )  # fmt: skip
    figure.text(
        left, 1 - 0.44 / height, safe_text(caption, limit=int(14.5 * width)),
        fontsize=8.5, color=FAINT, va="top", ha="left",
    )  # fmt: skip


def safe_text(text: str, *, limit: int = 28) -> str:
    r"""Make any string fit for a figure: one line, at most `limit` characters, nothing read as mathematics.

    Control and formatting characters, lone surrogates and glyphs the font lacks become escapes (`\n`, `\u732b`).
    """
    glyphs = _drawable()
    pieces: list[str] = []
    room = limit
    for character in text:
        known = ord(character) in glyphs and character.isprintable()
        piece = character if known else ascii(character)[1:-1]
        if len(piece) > room:
            while pieces and room < 3:
                room += len(pieces.pop())
            pieces.append("...")
            break
        pieces.append(piece)
        room -= len(piece)
    return "".join(pieces).replace("$", r"\$")


def class_name(label: int, classes: Sequence[str], *, limit: int = 28) -> str:
    """The name of a label as it is drawn; its number if it has none."""
    if label < 0:
        return "unlabeled"
    return safe_text(classes[label], limit=limit) if label < len(classes) else str(label)


@functools.cache
def _drawable() -> frozenset[int]:
    """The code points that both weights of our font can draw."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    weights = [get_font(findfont(FontProperties(family=_FONT, weight=weight))) for weight in ("normal", "bold")]
    return frozenset(weights[0].get_charmap()) & frozenset(weights[1].get_charmap())

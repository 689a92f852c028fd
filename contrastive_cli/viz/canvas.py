"""What all figures share: one look, colors anyone can tell apart, names that cannot break a figure, atomic files.

No pyplot: figures have no global state and need no display. Equal input gives equal bytes, PNG and SVG.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.notes import note
from contrastive_cli.viz.fonts import OWN_FONT, draw_in_any_script, family_of, is_drawable, numbered_names, own_letters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Found by a search for the largest least distance in CIELAB between any two of ten, seen normally and as with
# protanopia, deuteranopia and tritanopia (Machado et al. 2009, https://doi.org/10.1109/TVCG.2009.113): 29.
# The ten of Petroff (https://arxiv.org/abs/2107.02270), which keep apart less and hold two grays, come to 17.
PALETTE: Final = (
    "#2a7fd4", "#ff9d0a", "#d20f00", "#4be1c3", "#8700ff", "#876978", "#1e3c69", "#e1c378", "#780f1e", "#b4c3ff",
)  # fmt: skip
INK: Final = "#222222"
FAINT: Final = "#767676"
RULE: Final = "#d4d4d4"

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
    "font.family": OWN_FONT,
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
        draw_in_any_script(figure)
        content = io.BytesIO()
        metadata = {"Date": None} if file_format == "svg" else {"Software": None}
        figure.savefig(content, format=file_format, dpi=_DPI, metadata=metadata)
    write_atomically(path, content.getvalue())


def heading(figure: Figure, *, title: str, caption: str = "") -> None:
    """Write the title at the top left and, small, what and how below it."""
    width, height = figure.get_size_inches()
    left = 0.2 / width
    figure.text(
        left, 1 - 0.16 / height, safe_text(title, limit=int(9.0 * width), any_font=True),
        fontsize=12.5, fontweight="bold", va="top", ha="left",
    )  # fmt: skip
    figure.text(
        left, 1 - 0.44 / height, safe_text(caption, limit=int(14.5 * width), any_font=True),
        fontsize=8.5, color=FAINT, va="top", ha="left",
    )  # fmt: skip


def safe_text(text: str, *, limit: int = 28, any_font: bool = False) -> str:
    r"""Make any string fit for a figure: one line, at most `limit` characters, nothing read as mathematics.

    Control and formatting characters, lone surrogates and glyphs that our font lacks become escapes (`\n`, `\u732b`);
    with `any_font` those that no installed font has.
    """
    pieces: list[str] = []
    room = limit
    for character in text:
        has_glyph = ord(character) in own_letters() or (any_font and family_of(character) is not None)
        piece = character if has_glyph and character.isprintable() else ascii(character)[1:-1]
        if _width(piece) > room:
            while pieces and room < 3:
                room += _width(pieces.pop())
            pieces.append("...")
            break
        pieces.append(piece)
        room -= _width(piece)
    return "".join(pieces).replace("$", r"\$")


def class_name(label: int, classes: Sequence[str], *, limit: int = 28) -> str:
    """The name of a label as it is drawn; its number if it has none, or none that an installed font can draw."""
    if label < 0:
        return "unlabeled"
    if label >= len(classes) or not is_drawable(classes[label]):
        return str(label)
    return safe_text(classes[label], limit=limit, any_font=True)


def note_numbered(labels: Iterable[int], classes: Sequence[str]) -> None:
    """Say which names stand as numbers in a figure."""
    line = numbered_names((label, classes[label]) for label in labels if 0 <= label < len(classes))
    if line:
        note(line)


def _width(piece: str) -> int:
    """In letters of the Latin script; those of East Asia are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in piece)

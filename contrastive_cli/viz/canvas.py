"""What all figures share: one look, colors anyone can tell apart, names that cannot break a figure, atomic files.

No pyplot: figures have no global state and need no display. Equal input gives equal bytes.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.notes import note
from contrastive_cli.viz.fonts import OWN_FONT, draw_in_any_script, family_of, is_drawable, numbered_names, own_letters
from contrastive_cli.viz.theme import Theme, theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_SUFFIXES: Final = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")
_KINDS: Final = {suffix: suffix[1:] for suffix in FIGURE_SUFFIXES} | {".jpeg": "jpg"}
# What an equal figure must not differ in: the time and the program it was drawn at and by.
_METADATA: Final[dict[str, dict[str, None]]] = {
    "png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}  # fmt: skip
_QUALITY: Final = {"jpg": {"quality": 92, "subsampling": 0}, "webp": {"quality": 90, "method": 4}}
_DPI: Final = 160
HEADING_INCHES: Final = 0.7  # what `heading` takes at the top


@contextmanager
def drawing(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure of a size in inches; on leaving, write it to `path`, whole or not at all.

    Raises:
        UsageError: If the suffix of `path` is none of `FIGURE_SUFFIXES`.
        RunError: If the file cannot be written.
    """
    kind = figure_kind(path)
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context(["default", _style(theme())]):  # not the user's matplotlibrc
        figure = Figure(figsize=(width, height), dpi=_DPI)
        FigureCanvasAgg(figure)
        yield figure
        draw_in_any_script(figure)
        content = io.BytesIO()
        how = {"pil_kwargs": _QUALITY[kind]} if kind in _QUALITY else {"metadata": _METADATA[kind]}
        figure.savefig(content, format=kind, dpi=_DPI, **how)
    write_atomically(path, content.getvalue())


def figure_kind(path: Path) -> str:
    """What the suffix of a figure stands for: png, svg, pdf, jpg or webp.

    Raises:
        UsageError: If it stands for nothing.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        known = f"{', '.join(FIGURE_SUFFIXES[:-1])} or {FIGURE_SUFFIXES[-1]}"
        raise UsageError(f"cannot draw {path.name!r}: figures are {known}", path=path)
    return kind


def _style(colors: Theme) -> dict[str, Any]:
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": colors.rule,
        "axes.facecolor": colors.paper,
        "axes.grid": False,
        "axes.labelcolor": colors.faint,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": colors.ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "figure.facecolor": colors.paper,
        "font.family": OWN_FONT,
        "font.size": 9.0,
        "grid.color": colors.grid,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "pdf.fonttype": 42,  # letters that can be searched and copied
        "savefig.facecolor": colors.paper,
        "svg.hashsalt": "clr",  # else the ids in an SVG are random
        "text.color": colors.ink,
        "xtick.color": colors.rule,
        "xtick.labelcolor": colors.faint,
        "ytick.color": colors.rule,
        "ytick.labelcolor": colors.faint,
    }


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
        fontsize=8.5, color=theme().faint, va="top", ha="left",
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

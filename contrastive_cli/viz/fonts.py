"""Letters of any script: our own font, then whichever installed font has what it lacks."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWN_FONT: Final = "DejaVu Sans"  # ships with matplotlib, so figures look the same everywhere
# Of these the first that is installed is taken; else any, by name. All are read as they lie, none is fetched.
_WELL_MADE: Final = ("Noto Sans", "Source Han Sans", "PingFang", "Hiragino", "Microsoft YaHei", "Yu Gothic", "Malgun")
_NO_TEXT: Final = ("emoji", "last resort", "lastresort", "symbol", "icons", "awesome", "adobe blank")
_MOST_FONTS: Final = 3000


@functools.cache
def own_letters() -> frozenset[int]:
    """The code points that both weights of our font can draw."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    weights = [get_font(findfont(FontProperties(family=OWN_FONT, weight=weight))) for weight in ("normal", "bold")]
    return frozenset(weights[0].get_charmap()) & frozenset(weights[1].get_charmap())


def family_of(letter: str) -> str | None:
    """The font family that draws a letter; None where no installed font has it."""
    if ord(letter) in own_letters():
        return OWN_FONT
    return _other_family(letter) if unicodedata.category(letter)[0] in "LMN" else None


def draw_in_any_script(figure: Figure) -> None:
    """Let the texts of a figure fall back, letter by letter, to the fonts that have what ours lacks."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if isinstance(text, Text):
            families = {family_of(letter) for letter in set(text.get_text()) if ord(letter) not in own_letters()}
            others = sorted(family for family in families if family is not None)
            if others:
                text.set_fontfamily([OWN_FONT, *others])


def is_drawable(text: str) -> bool:
    """Whether every letter of a name can be drawn; signs that are no letters are written as escapes anyway."""
    return all(family_of(letter) is not None for letter in text if unicodedata.category(letter)[0] in "LMN")


@functools.cache
def _other_family(letter: str) -> str | None:
    """Of the fonts that are installed, the first in a fixed order that has the letter."""
    return next((family for family, path in _installed().items() if ord(letter) in _letters_of(path)), None)


def _installed() -> Mapping[str, str]:
    from matplotlib.font_manager import fontManager

    regular = sorted(
        ((entry.name, entry.fname) for entry in fontManager.ttflist if entry.style == "normal"),
        key=lambda pair: (_rank(pair[0]), *pair),
    )
    fonts: dict[str, str] = {}
    for name, path in regular[:_MOST_FONTS]:
        if name != OWN_FONT and not any(word in name.lower() for word in _NO_TEXT):
            fonts.setdefault(name, path)
    return fonts


def _rank(family: str) -> int:
    return next((rank for rank, known in enumerate(_WELL_MADE) if family.startswith(known)), len(_WELL_MADE))


@functools.cache
def _letters_of(path: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (RuntimeError, OSError):  # a font of bitmaps, or one that was removed
        return frozenset()


def numbered_names(names: Iterable[tuple[int, str]]) -> str:
    """A line that lists the names that are drawn as numbers; empty where there are none."""
    missing = [f"{label} = {name}" for label, name in names if not is_drawable(name)]
    if not missing:
        return ""
    return f"no installed font has the letters of some names, which are drawn as numbers: {', '.join(missing)}"

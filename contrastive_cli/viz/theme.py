"""Light and dark: the colors that figures are drawn in. Which of the two is said once, around what draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from contrastive_cli.core.choices import ThemeKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Theme:
    """Colors of a figure: the ground, text and what is less than text, lines, and ten for what is shown."""

    paper: str
    ink: str
    faint: str
    rule: str
    grid: str
    palette: tuple[str, ...]
    strong: str  # of a line over its own faint one


# Found by a search for the largest least distance in CIELAB between any two of ten, seen normally and as with
# protanopia, deuteranopia and tritanopia (Machado et al. 2009, https://doi.org/10.1109/TVCG.2009.113): 29.
# The ten of Petroff (https://arxiv.org/abs/2107.02270), which keep apart less and hold two grays, come to 17.
PALETTE: Final = (
    "#2a7fd4", "#ff9d0a", "#d20f00", "#4be1c3", "#8700ff", "#876978", "#1e3c69", "#e1c378", "#780f1e", "#b4c3ff",
)  # fmt: skip
DARK_PALETTE: Final = (  # the same search among colors that are light enough for a dark ground: 27.9
    "#4efaf0", "#c89e22", "#b05a32", "#10b089", "#b2acff", "#506e8b", "#ece293", "#c1ff1a", "#8135fc", "#9745c3",
)  # fmt: skip

THEMES: Final[dict[ThemeKind, Theme]] = {
    "light": Theme(
        paper="#ffffff", ink="#222222", faint="#767676", rule="#d4d4d4", grid="#ececec", palette=PALETTE,
        strong="#1f5f99",
    ),
    "dark": Theme(
        paper="#15181c", ink="#e9eaec", faint="#a3a9b2", rule="#434951", grid="#292d33", palette=DARK_PALETTE,
        strong="#b7dbff",
    ),
}  # fmt: skip

_chosen: ContextVar[Theme] = ContextVar("theme", default=THEMES["light"])


@contextmanager
def themed(kind: ThemeKind) -> Iterator[None]:
    """While entered, figures are drawn in this theme."""
    token = _chosen.set(THEMES[kind])
    try:
        yield
    finally:
        _chosen.reset(token)


def theme() -> Theme:
    """The theme that figures are drawn in here."""
    return _chosen.get()

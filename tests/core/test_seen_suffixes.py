"""The suffixes of pages and figures are known without what draws them."""

from __future__ import annotations

from pathlib import Path

from contrastive_cli.core.files import SEEN, is_seen
from contrastive_cli.viz.canvas import FIGURE_SUFFIXES


def test_is_seen__pages_and_every_kind_of_figure() -> None:
    assert (".html", *FIGURE_SUFFIXES) == SEEN
    assert is_seen(Path("hits.PNG"))
    assert not is_seen(Path("hits.csv"))

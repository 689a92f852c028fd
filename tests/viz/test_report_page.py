"""The report as a page: every name is text, nothing is asked of anyone, and a real browser has no complaint."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from browser import HOSTILE, Tab

from contrastive_cli.viz.confusion import confusion_figure
from contrastive_cli.viz.report_page import (
    Code,
    Column,
    Missing,
    Report,
    Section,
    Sentence,
    Strip,
    Table,
    draw,
    tiles,
    write_report,
)

NAMES = (*HOSTILE, "</style><script>alert(1)</script>", "{{ 7 * 7 }}", "{% raw %}")


def small_report(name: str = "run") -> Report:
    pixels = np.full((12, 3, 8, 8), 200, np.uint8)
    matrix = np.array([[3, 1], [0, 2]])
    blocks = (
        Sentence(text=name),
        Code(text=f"clr pretrain --out {name}"),
        Table(head=("a", name), rows=((name, "1 %"), ("b", "2 %"))),
        Missing(what=name, command="clr linear-eval --run x"),
        Strip(title=name, tiles=tiles(pixels, texts=[name] * 12, marks=["query", "right", "wrong"] * 4), wraps=False),
        draw(lambda path: confusion_figure(matrix, classes=("a", name), path=path, title=name), alt=name),
    )
    columns = (Column(name=name, blocks=blocks), Column(name="other", blocks=blocks[:2]))
    return Report(
        title=name,
        subtitle=name,
        verdicts=((name, "It helped."), ("other", "It did not.")),
        sections=(Section(anchor="one", title="One", explained=name, columns=columns),),
    )


@pytest.mark.parametrize("name", NAMES)
def test_write_report__names_stay_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(small_report(name), path)
    text = path.read_text(encoding="utf-8")
    assert "script-src" not in text
    assert "default-src 'none'; img-src data:" in text.replace("&#39;", "'")
    assert not re.search(r"<script|<img src=x|onerror=(?!alert\(1\)&gt;)|\u202e", text)
    if name in ("{{ 7 * 7 }}", "{% raw %}"):
        assert name in text  # it was not taken for a place of the template
    assert set(re.findall(r'(?:src|srcset|href)="(data:|#)?', text)) == {"data:", "#"}


def test_report__missing_parts_are_listed_once() -> None:
    assert [one.command for one in small_report().missing] == ["clr linear-eval --run x"]


@pytest.mark.parametrize("how", [{}, {"dark": True}, {"phone": True, "width": 390, "height": 800}])
def test_report__in_a_browser(tab: Tab, how: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(small_report("<b>a & b</b>"), path)
    tab.open(path.as_uri(), **how)  # type: ignore[arg-type]
    assert (tab.complaints, tab.requests) == ([], [])
    assert tab.run("document.querySelector('h1').textContent") == "<b>a & b</b>"
    assert tab.run("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert tab.run("document.documentElement.scrollWidth <= innerWidth"), "it is wider than the window"
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 24, 28)" if how.get("dark") else "rgb(255, 255, 255)")
    source = tab.run("document.querySelector('.drawing img').currentSrc")
    page = path.read_text()
    dark = re.search(r'srcset="([^"]*)"', page)
    assert dark is not None
    assert (source == dark[1]) == bool(how.get("dark"))
    tops = tab.run("[...document.querySelectorAll('.tiles.row .tile')].map((one) => one.offsetTop)")
    assert len(set(tops)) == 1, "a row that does not wrap has wrapped"


def test_report__prints_on_white_with_its_pictures(tab: Tab, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(small_report(), path)
    tab.open(path.as_uri(), dark=True)
    tab.send("Emulation.setEmulatedMedia", media="print")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    tab.send("Emulation.setEmulatedMedia", media="")
    printed = tab.send("Page.printToPDF", printBackground=True)["data"]
    assert len(printed) > 10_000

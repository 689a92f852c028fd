"""The page of lists and the heat map in a real browser that is offline: pictures, hostile names, copying, hovering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import HOSTILE, Tab

from contrastive_cli.viz.embedding_map import Thumbnails
from contrastive_cli.viz.gallery import Card, Gallery, HeatMap, Row, Section, Table, write_gallery

COLORS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


def thumbnails(count: int) -> Thumbnails:
    """Plain tiles, whose colors go round; the last is absent."""
    pixels = np.array([COLORS[number % 3] for number in range(count)], np.uint8)[:, :, None, None]
    present = np.ones(count, np.bool_)
    present[-1] = False
    return Thumbnails(pixels=np.broadcast_to(pixels, (count, 3, 16, 16)).copy(), present=present)


def section(kind: str, names: list[str], *, size: int, first: int = 0) -> Section:
    """A list of groups of `size` pictures."""
    cards = [Card(tile=first + number, name=name, lines=("train", "0.99")) for number, name in enumerate(names)]
    rows = [
        Row(number=start // size + 1, heading="equal" if size > 1 else "", cards=tuple(cards[start : start + size]))
        for start in range(0, len(cards), size)
    ]
    return Section(
        kind=kind, title=f"Title of {kind}", count=f"{len(rows)} groups", text="What it means.",
        is_fault=kind == "leak", in_groups=size > 1, rows=tuple(rows),
    )  # fmt: skip


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("gallery") / "check.html"
    many = [f"photos/{number:04d}.jpg" for number in range(1200)]
    write_gallery(
        Gallery(
            title="Check of </title><b>photos",
            lines=("1,206 pictures", "<i>gray</i>"),
            tables=(
                Table(title="Classes", columns=("class", "train"), rows=(("<b>a</b>", "30"), ("=b", "60")), bars=True),
            ),
            sections=(section("leak", [*HOSTILE, "last.png"], size=2), section("exact", many, size=1, first=6)),
            clean=("Dark",),
            command="clr pretrain --data-dir 'my photos'",
            reasons=("size 32: because",),
            thumbnails=thumbnails(1206),
        ),
        path,
    )
    return path.as_uri()


@pytest.fixture
def shown(tab: Tab, gallery: str) -> Tab:
    tab.open(gallery)
    tab.wait_for("document.querySelectorAll('canvas[data-drawn]').length > 100")
    return tab


def test_gallery__asks_for_nothing_and_complains_of_nothing(shown: Tab) -> None:
    assert shown.complaints == []
    assert shown.requests == []
    assert shown.run("document.querySelectorAll('img, b, i').length") == 0


def test_gallery__names_stay_text(shown: Tab) -> None:
    names = shown.run("[...document.querySelectorAll('#leak .name')].map((each) => each.textContent)")
    assert names == [*HOSTILE[:4], "{{data}}&lt;?.png", "last.png"]
    assert shown.run("document.title") == "Check of </title><b>photos"
    assert shown.run("document.getElementById('title').textContent") == "Check of </title><b>photos"
    assert shown.run("document.querySelector('td').textContent") == "<b>a</b>"


def test_gallery__pictures_are_those_of_the_cards(shown: Tab) -> None:
    colors = shown.run(
        "[...document.querySelectorAll('#leak canvas, #exact canvas')].slice(0, 126)"
        ".map((each) => [...each.getContext('2d').getImageData(8, 8, 1, 1).data].slice(0, 3))"
    )
    assert len(colors) == 126
    assert [int(np.argmax(color)) for color in colors] == [number % 3 for number in range(126)]


def test_gallery__the_absent_one_says_so_and_more_is_shown_on_request(shown: Tab) -> None:
    assert shown.run("document.querySelectorAll('#exact .card').length") == 120
    assert shown.run("document.querySelector('#exact > .more').textContent") == "show 1,080 more"
    for _ in range(9):
        shown.run("document.querySelector('#exact > .more').click()")
    assert shown.run("document.querySelectorAll('#exact .card').length") == 1200
    assert shown.run("document.querySelector('#exact > .more')") is None
    assert shown.run("document.querySelector('#exact .none').textContent") == "no picture"
    assert shown.run("document.querySelectorAll('.none').length") == 1
    shown.wait_for("document.querySelectorAll('canvas[data-drawn]').length === 1205")  # of the second atlas too
    assert shown.complaints == []


def test_gallery__contents_name_every_list_and_what_is_clean(shown: Tab) -> None:
    links = shown.run("[...document.querySelectorAll('#contents a')].map((each) => [each.hash, each.className])")
    assert links == [["#leak", "fault"], ["#exact", ""]]
    assert shown.run("document.querySelector('#contents span').textContent") == "Dark: none"
    assert shown.run("document.getElementById('command').textContent") == "clr pretrain --data-dir 'my photos'"


def test_gallery__names_are_copied_group_by_group(shown: Tab) -> None:
    copied = shown.run("namesOf(page.sections[0])")
    assert copied.split("\n\n")[0] == "\n".join(HOSTILE[:2])


def test_gallery__dark_and_on_a_phone(tab: Tab, gallery: str) -> None:
    tab.open(gallery, dark=True)
    dark = tab.run("getComputedStyle(document.body).backgroundColor")
    tab.run("document.getElementById('theme').click()")
    assert tab.run("getComputedStyle(document.body).backgroundColor") != dark
    tab.open(gallery, width=390, height=800, phone=True)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.complaints == []


def test_heat_map__hover_says_which_two_and_whether_they_are_the_same(tab: Tab, tmp_path: Path) -> None:
    values = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]])
    cards = tuple(Card(tile=number, name=name) for number, name in enumerate(HOSTILE[:3]))
    heat = HeatMap(cards=cards, values=values, low=0.1, high=1.0, threshold=0.5)
    write_gallery(
        Gallery(title="similarity", lines=(), thumbnails=thumbnails(4), heat_map=heat), tmp_path / "heat.html"
    )
    tab.open((tmp_path / "heat.html").as_uri())
    box = tab.run("(({x, y}) => [x, y])(document.querySelector('.heat canvas').getBoundingClientRect())")
    for row, column, said in ((0, 1, "0.9000: the same"), (2, 0, "0.1000: different"), (1, 1, "1.0000")):
        tab.mouse("Moved", box[0] + 64 * (column + 1.5), box[1] + 64 * (row + 1.5))
        tab.settle()
        lines = tab.run("[...document.querySelectorAll('#hover > div:not(.pair)')].map((each) => each.textContent)")
        assert lines == [said, HOSTILE[row], HOSTILE[column]]
    assert tab.run("document.querySelector('.scale').textContent") == "0.101.00framed: the same, from 0.5000"
    assert tab.complaints == []
    assert tab.requests == []

"""The page as people use it, in a real browser that is offline: opens, hovers, clicks, lassos, searches, saves."""

from __future__ import annotations

import csv
import io
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import HOSTILE, Tab

from contrastive_cli.viz.embedding_map import EmbeddingMap, Names, Numbers, Thumbnails
from contrastive_cli.viz.page import write_page

COUNT, PER_SIDE = 400, 20


def small_map(*, source: str = "small.npz", shift: int = 0, pictures: bool = True) -> EmbeddingMap:
    """Points on a square lattice, four classes in four corners; the neighbors of i are i + 1 + shift and so on."""
    rows, columns = np.divmod(np.arange(COUNT), PER_SIDE)
    points = np.stack([columns, rows], axis=1).astype(np.float32)
    labels = (rows >= PER_SIDE // 2) * 2 + (columns >= PER_SIDE // 2)
    colors = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30]], np.uint8)
    pixels = np.broadcast_to(colors[labels][:, :, None, None], (COUNT, 3, 16, 16)).copy()
    return EmbeddingMap(
        coordinates={"tsne": points, "pca": points[:, ::-1].copy()},
        chosen=np.arange(COUNT),
        total=COUNT,
        labels=labels.astype(np.int64),
        classes=("north", "east", "<b>south</b>", "west"),
        paths=(*HOSTILE, *(f"photos/{i:04d}.jpg" for i in range(len(HOSTILE), COUNT))),
        neighbors=(np.arange(COUNT)[:, None] + 1 + shift + np.arange(5)) % COUNT,
        similarities=np.tile(np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), (COUNT, 1)),
        uncertainty=np.linspace(0, 1, COUNT, dtype=np.float32),
        thumbnails=Thumbnails(pixels=pixels, present=np.ones(COUNT, np.bool_)) if pictures else None,
        columns={
            "camera": Names(codes=np.arange(COUNT, dtype=np.int32) % 3 - 1, names=("=HYPERLINK(1)", "phone")),
            "height": Numbers(values=np.where(np.arange(COUNT) % 7, np.arange(COUNT), np.nan).astype(np.float32)),
        },
        source=source,
        caption="400 of 400 embeddings",
    )


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "map.html"
    write_page([small_map()], path)
    return path.as_uri()


@pytest.fixture
def opened(tab: Tab, page: str) -> Iterator[Tab]:
    """The page of one map; at the end it must have complained of nothing and asked for nothing."""
    tab.open(page)
    yield tab
    assert tab.complaints == []
    assert tab.requests == []


def place(tab: Tab, image: int, *, plane: int = 0) -> tuple[float, float]:
    """Where an image is on the screen."""
    script = (
        f"(() => {{ const p = planes[{plane}], box = p.ink.getBoundingClientRect(), [x, y] = p.toScreen({image}); "
        "return [x + box.left, y + box.top]; })()"
    )
    x, y = tab.run(script)
    return x, y


def text(tab: Tab, selector: str) -> str:
    found = tab.run(f"document.querySelector({selector!r}).innerText")
    assert isinstance(found, str)
    return found


def names(tab: Tab, selector: str) -> list[str]:
    found: list[str] = tab.run(f"[...document.querySelectorAll({selector!r})].map((node) => node.textContent)")
    return found


def test_page__opens_and_draws_the_classes(opened: Tab) -> None:
    assert text(opened, "#title") == "small.npz"
    assert text(opened, "#status") == "400 images"
    assert names(opened, "#groups .name") == ["north", "east", "<b>south</b>", "west"]
    colors = opened.run("new Set(planes[0].pixels).size")
    assert colors > 8  # four classes with soft edges on the background
    assert sorted(cluster["name"] for cluster in opened.run("planes[0].clusters")) == [
        "<b>south</b>", "east", "north", "west",
    ]  # fmt: skip


def test_page__hover_shows_picture_name_and_label(opened: Tab) -> None:
    opened.mouse("Moved", *place(opened, 217))
    opened.wait_for("!document.getElementById('card').hidden")
    assert names(opened, "#card p") == ["0217.jpg", "west"]
    opened.wait_for("document.querySelector('#card canvas').painted")
    pixel = opened.run("[...document.querySelector('#card canvas').getContext('2d').getImageData(8, 8, 1, 1).data]")
    assert np.abs(np.subtract(pixel, [200, 200, 30, 255])).max() < 40  # the picture of its class
    opened.mouse("Moved", 5, 400)
    opened.mouse("Moved", 700, 20)
    opened.wait_for("document.getElementById('card').hidden")


def test_page__click_shows_neighbors_and_goes_on(opened: Tab) -> None:
    opened.click(*place(opened, 100))
    assert text(opened, "#picked .name") == "photos/0100.jpg"
    assert names(opened, "#picked .tiles .name") == ["0.900", "0.800", "0.700", "0.600", "0.500"]
    titles = opened.run("[...document.querySelectorAll('#picked .tiles button')].map((button) => button.title)")
    assert titles == [f"photos/{number:04d}.jpg" for number in range(101, 106)]
    assert opened.run("state.focus.reduce((sum, value) => sum + value, 0)") == 6
    opened.run("document.querySelectorAll('#picked .tiles button')[1].click()")
    assert text(opened, "#picked .name") == "photos/0102.jpg"
    opened.key("n")
    assert text(opened, "#picked .name") == "photos/0103.jpg"
    opened.key("Escape")
    assert opened.run("document.getElementById('picked').hidden") is True


def lasso_around(tab: Tab, images: list[int], *, shift: bool) -> None:
    places = np.array([place(tab, image) for image in images])
    (left, top), (right, bottom) = places.min(axis=0) - 8, places.max(axis=0) + 8
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top + 4)]
    steps = [tuple(np.array(a) + (np.array(b) - a) * t / 5) for a, b in itertools.pairwise(corners) for t in range(5)]
    tab.drag(steps, shift=shift)


def test_page__lasso_lists_what_is_inside(opened: Tab) -> None:
    inside = [row * PER_SIDE + column for row in (4, 5, 6) for column in (12, 13)]
    lasso_around(opened, inside, shift=True)
    assert opened.run("state.selection") == inside
    assert text(opened, "#selected h2") == "6 images selected"
    assert names(opened, "#selected .tiles .name") == [f"{image:04d}.jpg" for image in inside]


def test_page__box_selects_and_move_pans(opened: Tab) -> None:
    opened.key("b")
    start, end = place(opened, 0), place(opened, 21)
    opened.drag([(start[0] - 5, start[1] + 5), (end[0], start[1]), (end[0] + 5, end[1] - 5)])
    assert opened.run("state.selection") == [0, 1, 20, 21]
    opened.key("m")
    before = place(opened, 200)
    opened.drag([(400, 400), (420, 410), (440, 430)])
    after = place(opened, 200)
    assert np.allclose(np.subtract(after, before), (40, 30), atol=0.5)
    opened.key("0")
    assert np.allclose(place(opened, 200), before, atol=0.5)


def test_page__wheel_zooms_at_the_pointer_and_shows_pictures(opened: Tab) -> None:
    x, y = place(opened, 210)
    opened.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-900)
    opened.settle()
    assert np.allclose(place(opened, 210), (x, y), atol=4)  # the wheel is at a whole pixel, four times closer
    opened.wait_for("planes[0].drawn.length > 5")
    opened.key("p")
    opened.key("p")
    opened.wait_for("planes[0].drawn.length === 0")  # dots


def test_page__search_by_name_and_class(opened: Tab) -> None:
    opened.key("/")
    opened.send("Input.insertText", text="/031")
    assert opened.run("state.selection") == list(range(310, 320))
    assert text(opened, "#selected h2") == "10 images found for “/031”"
    opened.send("Input.dispatchKeyEvent", type="keyDown", key="Enter")
    assert opened.run("planes[0].camera.zoom") > 1.2
    opened.key("Escape")
    assert opened.run("[state.selection.length, state.focus === undefined]") == [0, True]
    opened.key("/")
    opened.send("Input.insertText", text="EAST")
    assert opened.run("state.selection.length") == COUNT // 4


def test_page__legend_hides_and_shows(opened: Tab) -> None:
    opened.run("document.querySelector('#groups button').click()")
    assert text(opened, "#status") == "300 of 400 images"
    hidden = place(opened, 42)  # of the first class
    opened.mouse("Moved", *hidden)
    assert opened.run("state.hovered") == -1
    opened.run("document.getElementById('all').click()")
    assert text(opened, "#status") == "400 images"


def test_page__colors_by_every_column(opened: Tab) -> None:
    titles = names(opened, "#color option")
    assert titles == ["class", "uncertainty", "neighbor agreement", "camera", "height"]
    legends = {}
    for number, title in enumerate(titles):
        opened.run(f"(chooseColumn({number}), 0)")
        opened.settle()
        legends[title] = names(opened, "#groups .name")
    assert legends["camera"] == ["=HYPERLINK(1)", "phone", "none"]
    assert len(legends["uncertainty"]) == 6
    assert legends["height"][-1] == "none"


def test_page__projections_dark_mode_and_keys(opened: Tab) -> None:
    first = place(opened, 1)
    opened.key("2")
    assert opened.run("state.projection") == 1
    assert place(opened, 1) != first
    light = opened.run("planes[0].pixels[0]")
    opened.key("d")
    assert opened.run("document.documentElement.dataset.theme") == "dark"
    assert opened.run("planes[0].pixels[0]") != light
    opened.key("?")
    assert opened.run("document.getElementById('keys').open") is True


def test_page__saves_a_selection_that_no_spreadsheet_runs(opened: Tab, tmp_path: Path) -> None:
    opened.save_downloads_to(tmp_path)
    opened.run("(select([0, 1, 2, 3, 7], 'selected'), 0)")
    opened.run("[...document.querySelectorAll('#selected button')].find((b) => b.textContent === 'Save CSV').click()")
    saved = tmp_path / "selection.csv"
    end = time.monotonic() + 30
    while not saved.exists() or not saved.stat().st_size:
        assert time.monotonic() < end
        time.sleep(0.05)
    content = saved.read_bytes().decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(content, newline=""))
    assert header == [
        "path",
        "index",
        "x_tsne",
        "y_tsne",
        "class",
        "uncertainty",
        "neighbor agreement",
        "camera",
        "height",
    ]
    assert [row[0] for row in rows] == [HOSTILE[0], HOSTILE[1], "'=cmd.csv", HOSTILE[3], "photos/0007.jpg"]
    assert [row[7] for row in rows] == ["", "'=HYPERLINK(1)", "phone", "", "'=HYPERLINK(1)"]
    assert [row[2:4] for row in rows][-1] == ["7", "0"]


def test_page__hostile_names_stay_text(opened: Tab) -> None:
    opened.run("(select([0, 1, 2, 3, 4], 'selected'), 0)")
    for image in range(len(HOSTILE)):
        opened.run(f"(pick({image}), hover({image}, 0, 300, 300), 0)")
        opened.settle()
        shown = text(opened, "#picked .name")
        assert shown == {3: "\\u202egnp.exe", 4: "{{data}}&lt;\\udcff.png"}.get(image, HOSTILE[image])
    assert opened.run("document.querySelectorAll('img, iframe, b b, [onerror]').length") == 0
    assert opened.run("document.scripts.length") <= 3  # data, one atlas until it is read, the script


def test_page__script_of_others_is_refused(tab: Tab, page: str) -> None:
    tab.open(page)
    tab.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    tab.settle()
    assert tab.run("window.ran === undefined") is True
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)


def test_page__two_maps_are_linked(tab: Tab, tmp_path: Path) -> None:
    path = tmp_path / "pair.html"
    write_page([small_map(source="before"), small_map(source="after", shift=2)], path)
    tab.open(path.as_uri())
    assert names(tab, "figcaption") == ["before400 of 400 embeddings", "after400 of 400 embeddings"]
    tab.click(*place(tab, 150, plane=1))
    assert text(tab, "#picked .name") == "photos/0150.jpg"
    assert len(names(tab, "#picked .tiles button")) == 10
    shared = tab.run("[...document.querySelectorAll('#picked .shared')].map((button) => button.title)")
    assert shared == [f"photos/{number:04d}.jpg" for number in (153, 154, 155)] * 2
    assert tab.run("state.focus.reduce((sum, value) => sum + value, 0)") == 8
    assert (tab.complaints, tab.requests) == ([], [])


def test_page__readable_on_a_phone(tab: Tab, page: str) -> None:
    tab.open(page, width=390, height=844, phone=True, dark=True)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.run("planes[0].figure.getBoundingClientRect().height") > 300
    x, y = place(tab, 205)
    tab.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    tab.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    tab.wait_for("state.picked === 205")
    assert (tab.complaints, tab.requests) == ([], [])


def test_page__without_pictures_labels_or_names(tab: Tab, tmp_path: Path) -> None:
    path = tmp_path / "bare.html"
    rows = np.arange(3)
    bare = EmbeddingMap(
        coordinates={"pca": np.zeros((3, 2), np.float32)},
        chosen=rows,
        total=3,
        neighbors=(rows[:, None] + [1, 2]) % 3,  # type: ignore[arg-type]
        similarities=np.ones((3, 2), np.float32),
        note="dots only, without pictures: the file names no images",
    )
    write_page([bare], path)
    tab.open(path.as_uri())
    assert "dots only" in text(tab, "#status")
    tab.click(*place(tab, 0))
    assert text(tab, "#picked .name").startswith("image ")
    assert (tab.complaints, tab.requests) == ([], [])


def frames(tab: Tab, *, seconds: float) -> Any:
    return tab.run(
        "new Promise((done) => { let number = 0; const start = performance.now(); const next = () => { number++; "
        "planes[0].pan(3, 2); requestDrawing(); "
        f"if (performance.now() - start < {1000 * seconds}) requestAnimationFrame(next); else done(number); }}; "
        "next(); })"
    )


def test_page__pans_fluently(opened: Tab) -> None:
    assert frames(opened, seconds=1.0) > 10  # a loaded machine is no place to measure; this finds a drawing that stalls

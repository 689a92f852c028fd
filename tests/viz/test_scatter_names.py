"""What a map must not do: pile names up, draw classes alike, leave half of the canvas empty, write names as codes."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from numpy.typing import NDArray
from PIL import Image

from contrastive_cli.core.choices import ThemeKind
from contrastive_cli.viz import fonts
from contrastive_cli.viz.canvas import class_name, safe_text
from contrastive_cli.viz.scatter import _push_apart, scatter
from contrastive_cli.viz.theme import PALETTE, THEMES

# Machado et al. 2009, severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear sRGB [N, 3] in CIELAB."""
    xyz = linear @ TO_XYZ.T / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(np.clip(xyz, 1e-12, None)), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("kind", THEMES)
@pytest.mark.parametrize("sight", SIGHT)
def test_palette__any_two_colors_differ(sight: str, kind: ThemeKind) -> None:
    palette = THEMES[kind].palette
    colors = np.array([to_rgb(color) for color in palette])
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = lab(np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1))
    assert len(palette) == 10
    assert (
        min(np.linalg.norm(one - two) for one, two in itertools.combinations(seen, 2)) > {"light": 28, "dark": 27}[kind]
    )
    assert (seen[:, 0] < 88).all() if kind == "light" else (seen[:, 0] > 43).all()  # on white, on nearly black


@pytest.mark.parametrize("places", ["one", "corner", "two"])
def test_push_apart__no_name_lies_on_another_or_leaves_the_map(places: str) -> None:
    figure = Figure(figsize=(7, 6))
    axes = figure.add_axes((0.05, 0.05, 0.9, 0.9))
    axes.set_aspect("equal", adjustable="datalim")
    axes.scatter([-10, 10], [-10, 10])
    x, y = {"one": (0, 0), "corner": (10, 10), "two": (-5, 0)}[places]
    names = [f"class of number {number}" for number in range(20)]
    texts = [
        axes.text(x + (4 * (number % 2) if places == "two" else 0), y, name, ha="center", va="center")
        for number, name in enumerate(names)
    ]
    _push_apart(axes, texts)
    boxes = [text.get_window_extent() for text in texts]
    for one, two in itertools.combinations(boxes, 2):
        apart = one.x1 <= two.x0 or two.x1 <= one.x0 or one.y1 <= two.y0 + 0.5 or two.y1 <= one.y0 + 0.5
        assert apart, (one, two)
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


@pytest.mark.parametrize("stretch", [(1, 1), (1, 0.6), (0.9, 1)])
@pytest.mark.parametrize("labeled", [True, False])
def test_scatter__fills_its_canvas(stretch: tuple[float, float], labeled: bool, tmp_path: Path) -> None:
    side = np.linspace(0, 1, 40)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2) * stretch
    labels = np.zeros(len(grid), int) if labeled else None
    path = tmp_path / "map.png"
    scatter(grid, labels=labels, classes=["a"], title="", caption="", path=path)
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    color = np.array([int(255 * part) for part in to_rgb(PALETTE[0] if labeled else "#d4d4d4")])
    rows, columns = np.nonzero((np.abs(image - color).sum(axis=-1) < 120) & (image.sum(axis=-1) < 740))
    height, width = image.shape[:2]
    covered = np.ptp(np.percentile(rows, [2, 98])) * np.ptp(np.percentile(columns, [2, 98])) / (width * height)
    assert covered > (0.5 if labeled else 0.6)  # the legend is beside it


@pytest.fixture
def font_of_cats(tmp_path: Path) -> str:
    """An installed font that has one letter, a square."""
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000, isTTF=True)
    pen = pytest.importorskip("fontTools.pens.ttGlyphPen").TTGlyphPen(None)
    pen.moveTo((50, 0))
    for corner in ((50, 900), (950, 900), (950, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({0x732B: "cat"})
    builder.setupGlyf({".notdef": square, "cat": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 50), "cat": (1000, 50)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Cats", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    file = tmp_path / "cats.ttf"
    builder.save(file)
    return str(file)


def test_scatter__names_in_a_script_that_another_font_has(font_of_cats: str, tmp_path: Path) -> None:
    before = list(fontManager.ttflist)
    fonts._other_family.cache_clear()
    fontManager.addfont(font_of_cats)
    try:
        assert class_name(0, ["\u732b"]) == "\u732b"
        assert safe_text("\u732b", any_font=True) == "\u732b"
        coordinates = np.random.default_rng(0).normal(size=(30, 2))
        path = tmp_path / "map.svg"
        for suffix in ("svg", "png"):
            path = tmp_path / f"map.{suffix}"
            scatter(coordinates, labels=np.zeros(30, int), classes=["\u732b"], title="\u732b", caption="", path=path)
        assert "<!-- \u732b -->" in (tmp_path / "map.svg").read_text()
    finally:
        fontManager.ttflist[:] = before
        fonts._other_family.cache_clear()


def test_scatter__names_that_no_font_has_are_numbers_and_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if "DejaVu Sans" in font.name])
    fonts._other_family.cache_clear()
    classes = ["\u732b", "\u041a\u043e\u0448\u043a\u0430", "\u5317\u4eac 7"]
    assert [class_name(label, classes) for label in range(3)] == ["0", classes[1], "2"]
    coordinates = np.random.default_rng(0).normal(size=(30, 2))
    with caplog.at_level(logging.INFO):
        path = tmp_path / "map.svg"
        scatter(coordinates, labels=np.arange(30) % 3, classes=classes, title="", caption="", path=path)
    assert "0 = \u732b, 2 = \u5317\u4eac 7" in caplog.text
    assert "\\u" not in path.read_text()
    fonts._other_family.cache_clear()

"""Figures: what is in them, hostile names, equal bytes, nothing half-written."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from contrastive_cli.core.choices import ThemeKind
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.viz.canvas import safe_text
from contrastive_cli.viz.compared_curves import compared_curves
from contrastive_cli.viz.curves import accuracy_over_labels, curves
from contrastive_cli.viz.grids import neighbors_grid, reconstructions_grid, views_grid
from contrastive_cli.viz.heat_map import color_range
from contrastive_cli.viz.scatter import scatter
from contrastive_cli.viz.theme import PALETTE, THEMES, theme, themed

HOSTILE = [
    "$\\frac{1}{", "a$b$c", "line\nbreak", "\x1b[31mred", "emoji \U0001f9ff", "\u732b", "non-utf8 \udcff", "_hidden",
    "x" * 300, "", "<script>&amp;\"'", "\u202egnp.exe", "\\$", "%s {0}", "-1",
]  # fmt: skip


def pixels_near(path: Path, color: str) -> int:
    """How many pixels of a PNG have a color, nearly."""
    image = np.asarray(Image.open(path).convert("RGB"), dtype=np.int64)
    wanted = np.array(to_rgb(color)) * 255
    return int((np.abs(image - wanted).max(axis=-1) < 4).sum())


def clusters(num_classes: int, *, size: int = 30) -> tuple[NDArray[Any], NDArray[Any]]:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), size)
    return generator.normal(size=(len(labels), 2)) + 8 * np.stack([labels % 5, labels // 5], axis=1), labels


def draw_map(path: Path, *, num_classes: int = 3, classes: list[str] | None = None, title: str = "Map") -> Path:
    coordinates, labels = clusters(num_classes)
    names = [f"class {label}" for label in range(num_classes)] if classes is None else classes
    scatter(coordinates, labels=labels, classes=names, title=title, caption="PCA of some samples, seed 0", path=path)
    return path


def test_scatter__each_class_has_its_color(tmp_path: Path) -> None:
    path = draw_map(tmp_path / "map.png")
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    counts = [pixels_near(path, color) for color in PALETTE[:3]]
    assert min(counts) > 50  # the legend; the points themselves are a little transparent
    assert [pixels_near(path, color) for color in PALETTE[4:6]] == [0, 0]


@pytest.mark.parametrize(
    ("suffix", "begins"),
    [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".jpg", b"\xff\xd8"), (".JPEG", b"\xff\xd8"),
     (".webp", b"RIFF")],
)  # fmt: skip
def test_drawing__the_suffix_decides_and_equal_input_gives_equal_bytes(
    suffix: str, begins: bytes, tmp_path: Path
) -> None:
    one, two = (draw_map(tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
    assert one.startswith(begins)
    assert one == two


@pytest.mark.parametrize("kind", ["light", "dark"])
def test_themed__ground_text_and_points(kind: ThemeKind, tmp_path: Path) -> None:
    with themed(kind):
        path = draw_map(tmp_path / "map.png")
        colors = theme()
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels_near(path, colors.paper) > 0.5 * pixels.shape[0] * pixels.shape[1]
    assert min(pixels_near(path, color) for color in (colors.ink, colors.rule, *colors.palette[:3])) > 20
    other = THEMES["dark" if kind == "light" else "light"]
    assert pixels_near(path, other.paper) < 20
    if kind == "dark":  # in a light figure, the edges of gray letters come near the light ink
        assert pixels_near(path, other.ink) < 20
    assert theme() is THEMES["light"]


def test_scatter__a_legend_of_a_hundred_lies_within_the_figure(tmp_path: Path) -> None:
    path = draw_map(
        tmp_path / "map.svg", num_classes=100, classes=[f"class {label:03}" + "m" * 9 for label in range(100)]
    )
    drawn = path.read_text()
    texts = re.findall(r"<!-- (class \d{3}m+ \(30\)) -->\s*<g[^>]*translate\(([\d.]+) ([\d.]+)\)", drawn)
    width, height = (float(re.search(rf'{side}="([\d.]+)pt"', drawn)[1]) for side in ("width", "height"))  # type: ignore[index]
    assert len({text for text, _, _ in texts}) == 100
    places = {(round(float(x)), round(float(y))) for _, x, y in texts}
    assert len(places) == 100
    assert all(0 < x < width - 60 and 0 < y < height for x, y in places)


@pytest.mark.parametrize("num_classes", [1, 11, 20, 21, 100, 101])
def test_scatter__any_number_of_classes(tmp_path: Path, num_classes: int) -> None:
    path = draw_map(tmp_path / "map.svg", num_classes=num_classes)
    drawn = path.read_text()
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert (">class 0<" in drawn or "<!-- class 0 " in drawn) == (num_classes <= 100)
    assert (f"class number ({num_classes} classes)" in drawn) == (num_classes > 100)


def test_scatter__unknown_labels_and_no_labels(tmp_path: Path) -> None:
    coordinates, labels = clusters(2)
    labels[:10] = -1
    for number, given in enumerate([labels, None]):
        path = tmp_path / f"{number}.svg"
        scatter(coordinates, labels=given, classes=[], title="Map", caption="", path=path)
        assert ("unlabeled (10)" in path.read_text()) == (given is not None)


def test_scatter__one_point_and_equal_points(tmp_path: Path) -> None:
    for count in (1, 5):
        path = tmp_path / f"{count}.png"
        zeros = np.zeros((count, 2))
        scatter(zeros, labels=np.arange(count), classes=[], title="Map", caption="", path=path)
        assert path.stat().st_size > 5000


def test_scatter__bad_input_is_refused(tmp_path: Path) -> None:
    coordinates, labels = clusters(2)
    with pytest.raises(DataError, match="do not belong"):
        scatter(coordinates, labels=labels[:5], classes=[], title="", caption="", path=tmp_path / "map.png")
    coordinates[0] = np.nan
    with pytest.raises(DataError, match="finite"):
        scatter(coordinates, labels=labels, classes=[], title="", caption="", path=tmp_path / "map.png")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_scatter__hostile_names(tmp_path: Path, suffix: str) -> None:
    path = draw_map(tmp_path / f"map.{suffix}", num_classes=len(HOSTILE), classes=HOSTILE, title="$x_{\n\x00\U0001f9ff")
    if suffix == "svg":
        text = path.read_text()
        ElementTree.fromstring(text)
        assert "\x1b" not in text
        assert "<script" not in text
    else:
        Image.open(path).verify()


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_scatter__equal_input_gives_equal_bytes(tmp_path: Path, suffix: str) -> None:
    first, second = (draw_map(tmp_path / f"{number}.{suffix}") for number in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_drawing__ignores_the_users_style_and_keeps_it(tmp_path: Path) -> None:
    plain = draw_map(tmp_path / "plain.png").read_bytes()
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30}):
        assert draw_map(tmp_path / "styled.png").read_bytes() == plain
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize("name", ["map.gif", "map", "map.png.exe"])
def test_drawing__other_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf, \.jpg, \.jpeg or \.webp"):
        draw_map(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_drawing__a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "views.png"
    path.write_bytes(b"old")
    with pytest.raises(DataError, match="5 channels"):
        views_grid(np.zeros((2, 5, 4, 4), np.uint8), np.zeros((1, 2, 5, 4, 4)), path=path, title="")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("views.png", b"old")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a$b$", r"a\$b\$"),
        ("a\nb\x00", r"a\nb\x00"),
        ("\u732b \udcff", r"\u732b \udcff"),
        ("\u202eabc", r"\u202eabc"),
        ("x" * 40, "x" * 25 + "..."),
        ("x" * 26 + "\u732b", "x" * 25 + "..."),
        ("x" * 28, "x" * 28),
        ("", ""),
    ],
)
def test_safe_text__cases(text: str, shown: str) -> None:
    assert safe_text(text) == shown


def test_curves__panels_of_what_is_there(tmp_path: Path) -> None:
    records = [
        {"step": step, "epoch": step // 10, "train/loss": 5 - step / 50, "train/loss_chance": 6.2, "train/lr": 0.1}
        for step in range(100)
    ]
    records += [{"step": 9 + 10 * epoch, "epoch": epoch, "online/knn": epoch / 10} for epoch in range(10)]
    path = tmp_path / "curves.svg"
    curves(records, path=path, title="Run")
    drawn = path.read_text()
    for text in ("Loss", "chance", "Learning rate", "Online kNN accuracy", "step"):
        assert f"<!-- {text} -->" in drawn
    for text in ("aligned", "Effective rank", "epoch"):
        assert f"<!-- {text} -->" not in drawn


def test_curves__one_record_an_epoch_is_drawn_over_epochs(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    curves([{"step": 50 * n, "epoch": n, "train/loss": 5.0 - n} for n in range(4)], path=path, title="Run")
    assert "<!-- epoch -->" in path.read_text()


def test_curves__repeated_steps_count_once(tmp_path: Path) -> None:
    records = [{"step": step, "train/loss": 5.0 - step} for step in range(4)]
    wrong = [{"step": 2, "train/loss": 99.0}]
    curves(records, path=tmp_path / "straight.svg", title="Run")
    curves([*wrong, *records], path=tmp_path / "resumed.svg", title="Run")
    assert (tmp_path / "straight.svg").read_bytes() == (tmp_path / "resumed.svg").read_bytes()


def test_curves__many_and_not_finite_values(tmp_path: Path) -> None:
    records = [{"step": n, "train/loss": float("nan") if n % 7 == 0 else 1 / (n + 1)} for n in range(500)]
    curves([*records, {"step": 500, "train/loss": float("inf")}], path=tmp_path / "a.svg", title="Run")
    assert "loss, mean of" in (tmp_path / "a.svg").read_text()
    with pytest.raises(DataError, match="nothing to draw"):
        curves([{"step": 0, "train/loss": float("nan"), "other": 1.0}], path=tmp_path / "b.svg", title="Run")
    with pytest.raises(DataError, match="nothing to draw"):
        curves([], path=tmp_path / "b.svg", title="Run")


def test_accuracy_over_labels__a_line_each(tmp_path: Path) -> None:
    rows = [
        {"features": name, "head": "linear", "label_share": part, "accuracy": 0.8, "ci95": (0.75, 0.85)}
        for name in ("simclr", "$random_")
        for part in (0.01, 0.1, 1.0)
    ]
    rows.append({"features": "pixels", "head": "linear", "label_share": 1.0, "accuracy": 0.4})
    accuracy_over_labels(rows, path=tmp_path / "accuracy.svg", title="Accuracy")
    drawn = (tmp_path / "accuracy.svg").read_text()
    for text in ("simclr", "$random_", "pixels", "1 %", "10 %", "100 %"):
        assert f"<!-- {text} -->" in drawn
    assert [color in drawn for color in PALETTE[:4]] == [True, True, True, False]


def test_accuracy_over_labels__bad_rows_are_refused(tmp_path: Path) -> None:
    row = {"features": "simclr", "head": "linear", "label_share": 0.0, "accuracy": 0.4}
    for rows in ([], [row]):
        with pytest.raises(DataError, match="label fraction"):
            accuracy_over_labels(rows, path=tmp_path / "accuracy.svg", title="Accuracy")


@pytest.mark.parametrize("channels", [1, 3])
def test_views_grid__shows_originals_and_views(tmp_path: Path, channels: int) -> None:
    originals = np.full((3, channels, 8, 8), 200, np.uint8)
    views = np.full((2, 3, channels, 6, 6), 100 / 255)
    views_grid(originals, views, path=tmp_path / "views.png", title="Views")
    light, dark = (pixels_near(tmp_path / "views.png", color) for color in ("#c8c8c8", "#646464"))
    assert light > 20_000
    assert dark == pytest.approx(2 * light, rel=0.03)


def test_neighbors_grid__frames_tell_right_from_wrong(tmp_path: Path) -> None:
    queries = np.full((2, 3, 8, 8), 90, np.uint8)
    neighbors = np.full((2, 3, 3, 8, 8), 90, np.uint8)
    labels = np.array([0, 1])
    right, wrong = "#009e73", "#d55e00"
    given: list[tuple[NDArray[Any] | None, bool, bool]] = [
        (np.array([[0, 0, 0], [1, 1, 1]]), True, False),
        (np.array([[1, 1, 1], [0, 0, 0]]), False, True),
        (np.array([[0, 0, 1], [1, -1, 0]]), True, True),
        (None, False, False),
    ]
    for neighbor_labels, some_right, some_wrong in given:
        path = tmp_path / "neighbors.png"
        neighbors_grid(queries, neighbors, path=path, title="Neighbors", query_labels=labels,
                       neighbor_labels=neighbor_labels, classes=["a$", "b\n"])  # fmt: skip
        assert (pixels_near(path, right) > 500) == some_right
        assert (pixels_near(path, wrong) > 300) == some_wrong


def test_neighbors_grid__unfit_shapes_are_refused(tmp_path: Path) -> None:
    queries, neighbors = np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 3, 3, 8, 8), np.uint8)
    path = tmp_path / "neighbors.png"
    with pytest.raises(DataError, match="do not belong"):
        neighbors_grid(queries[:1], neighbors, path=path, title="")
    with pytest.raises(DataError, match="labels"):
        neighbors_grid(queries, neighbors, path=path, title="", query_labels=np.zeros(3))
    with pytest.raises(DataError, match="do not belong"):
        views_grid(queries, np.zeros((2, 3, 3, 8, 8)), path=path, title="")


def test_reconstructions_grid__draws_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    outputs = inputs / 255 + np.array([0.0, 5.0, np.nan])[:, None, None, None]
    file = tmp_path / "r.png"
    reconstructions_grid(inputs, outputs, [0.0, 5.0, 1.0], {"samples": outputs}, path=file, title="t")
    assert file.stat().st_size > 1000
    for wrong, errors in ((outputs[:2], [0.0] * 3), (outputs, [0.0]), (outputs[..., :4], [0.0] * 3)):
        with pytest.raises(DataError, match="do not fit together"):
            reconstructions_grid(inputs, wrong, errors, {}, path=file, title="t")


def test_compared_curves__a_line_a_run_and_its_name(tmp_path: Path) -> None:
    records = [
        {"step": step, "epoch": step / 2, "train/loss": 3.0 - step, "online/knn": 0.1 * step} for step in range(3)
    ]
    path = tmp_path / "curves.svg"
    compared_curves({"first": records, "second": records[:2]}, path=path, title="two", caption="")
    drawn = path.read_text()
    assert [f"<!-- {word} -->" in drawn for word in ("first", "second", "epoch", "Effective rank")] == [True] * 3 + [
        False
    ]
    assert all(color in drawn for color in PALETTE[:2])
    with pytest.raises(DataError, match="nothing to draw"):
        compared_curves({"a": [], "b": [{"step": 1}]}, path=tmp_path / "no.png", title="")
    assert not (tmp_path / "no.png").exists()


def test_color_range__leaves_the_diagonal_out() -> None:
    values = np.array([[1.0, 0.3, -0.1], [0.3, 1.0, 0.2], [-0.1, 0.2, 1.0]])
    assert color_range(values) == (-0.1, 0.3)
    low, high = color_range(np.ones((2, 2)))
    assert low == 1.0 < high

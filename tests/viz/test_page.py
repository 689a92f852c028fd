"""What is inside a page: one script known by its hash, no tag from a name, tiles that hold the pictures."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.core.errors import UsageError
from contrastive_cli.viz.atlases import make_atlases
from contrastive_cli.viz.embedding_map import EmbeddingMap, Thumbnails
from contrastive_cli.viz.map_files import FIGURE, map_format
from contrastive_cli.viz.page import write_page
from contrastive_cli.viz.self_contained import json_for_html


def tiny_map(
    *, source: str = "tiny.npz", names: tuple[str, ...] = ("a.png", "b.png", "c.png", "d.png")
) -> EmbeddingMap:
    rows = np.arange(4)
    return EmbeddingMap(
        coordinates={"pca": np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)},
        chosen=rows,
        total=9,
        labels=np.array([0, 0, 1, -1]),
        classes=("first", "second"),
        paths=names,
        neighbors=(rows[:, None] + [1, 2]) % 4,  # type: ignore[arg-type]
        similarities=np.array([[0.5, -0.25]] * 4, np.float32),
        thumbnails=Thumbnails(pixels=np.full((4, 1, 8, 8), 90, np.uint8), present=np.array([True, True, False, True])),
        source=source,
        caption="4 of 9",
    )


def written(tmp_path: Path, *maps: EmbeddingMap) -> str:
    path = tmp_path / "map.html"
    write_page(maps, path)
    return path.read_text(encoding="utf-8")


def test_write_page__policy_names_the_script_and_no_source(tmp_path: Path) -> None:
    page = written(tmp_path, tiny_map())
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert html.unescape(policy[1]) == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert not re.search(r"https?://|\beval\b|new Function|innerHTML|@import|url\(", page)


@pytest.mark.parametrize("name", ['"><img src=x onerror=alert(1)>.png', "</script>.jpg", "<!--<script>", "{{script}}"])
def test_write_page__names_stay_data(tmp_path: Path, name: str) -> None:
    page = written(tmp_path, tiny_map(source=name, names=(name, "b", "c", "d\udcff")))
    plain = written(tmp_path, tiny_map())
    assert len(re.findall(r"<\w", page)) == len(re.findall(r"<\w", plain))
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["names"] == [name, "b", "c", "d\udcff"]


def test_write_page__equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    assert written(tmp_path, tiny_map()) == written(tmp_path, tiny_map())


def test_write_page__labels_may_be_any_numbers(tmp_path: Path) -> None:
    numbers = np.array([10**15, 7, -1, 10**15])
    page = written(tmp_path, replace(tiny_map(), labels=numbers, classes=()))
    column = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["columns"][0]
    assert column["names"] == ["7", str(10**15)]
    assert np.frombuffer(base64.b64decode(column["values"][0]), "<i4").tolist() == [1, 0, -1, 1]


def test_json_for_html__begins_no_tag_and_reads_back() -> None:
    value = {"<": "</script>&amp;<!--]]>", "line": "\u2028"}
    text = json_for_html(value)
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == value


def test_agreement__counts_labeled_neighbors_of_the_same_class() -> None:
    assert np.array_equal(tiny_map().agreement(), np.array([0.5, 0, 0, np.nan], np.float32), equal_nan=True)  # type: ignore[arg-type]


def test_make_atlases__each_tile_holds_its_picture() -> None:
    count = 1500
    values = np.random.default_rng(0).integers(0, 256, count).astype(np.uint8)
    pixels = np.broadcast_to(values[:, None, None, None], (count, 1, 16, 16)).copy()
    present = np.arange(count) % 11 > 0
    near = np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)
    atlases, place = make_atlases(Thumbnails(pixels=pixels, present=present), near=near)
    assert len(atlases) == 2
    assert np.array_equal(place >= 0, present)
    assert np.array_equal(np.sort(place[present]), np.arange(present.sum()))
    sheets = [np.asarray(Image.open(io.BytesIO(atlas)).convert("L"), np.int64) for atlas in atlases]
    for image in np.flatnonzero(present)[::37]:
        sheet, within = divmod(int(place[image]), 1024)
        y, x = within // 32 * 16 + 8, within % 32 * 16 + 8
        assert abs(sheets[sheet][y, x] - int(values[image])) < 12


def test_make_atlases__what_is_near_lies_together() -> None:
    count = 4096
    near = np.random.default_rng(0).random((count, 2)).astype(np.float32)
    thumbnails = Thumbnails(pixels=np.zeros((count, 1, 1, 1), np.uint8), present=np.ones(count, np.bool_))
    _, place = make_atlases(thumbnails, near=near)
    corner = place[(near < 0.2).all(axis=1)] // 1024
    assert len(np.unique(corner)) == 1  # a corner is in one atlas of four


def test_map_format__by_suffix() -> None:
    assert map_format(None) is FIGURE
    assert map_format(Path("a.PNG")) is FIGURE
    assert map_format(Path("a.html")).max_maps == 2
    with pytest.raises(UsageError, match=r"'a\.gif': maps are \.png, \.svg, \.pdf, .*\.html or \.parquet"):
        map_format(Path("a.gif"))

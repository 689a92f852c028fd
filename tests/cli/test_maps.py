"""`clr plot embeddings` as a page and as a table, from a run and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clr_process import Clr
from pyarrow import parquet


def data_of(page: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])
    return found


def test_plot__page_of_the_runs_test_split(clr: Clr, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.html"
    result = clr(
        "plot", "embeddings", "--run", "runs/small", "--projection", "pca", "--out", out, "--json", cwd=trained
    )
    assert result.code == 0, result.err
    assert result.json == {"file": str(out), "kind": "embeddings"}
    data = data_of(out)
    assert data["title"] == "digits test"
    assert data["tiles"]["size"] == 32  # type: ignore[index]
    assert [column["title"] for column in data["columns"]] == ["class", "neighbor agreement"]  # type: ignore[attr-defined]


def test_plot__file_metadata_pair_and_table(clr: Clr, trained: Path, tmp_path: Path) -> None:
    for layer in ("h", "z"):
        done = clr("embed", "--run", "runs/small", "--layer", layer, "--out", tmp_path / f"{layer}.npz", cwd=trained)
        assert done.code == 0, done.err
    paths = [f"digits/test/{number:05d}" for number in range(3)]
    (tmp_path / "meta.csv").write_text("path,owner\n" + "".join(f"{path},me\n" for path in paths))
    pair = clr(
        "plot", "embeddings", tmp_path / "h.npz", tmp_path / "z.npz", "--projection", "pca", "--limit", "50",
        "--out", tmp_path / "pair.html", "--quiet", cwd=trained,
    )  # fmt: skip
    assert pair.code == 0, pair.err
    data = data_of(tmp_path / "pair.html")
    assert [shown["name"] for shown in data["maps"]] == ["h.npz", "z.npz"]  # type: ignore[attr-defined]
    assert "tiles" in data  # found through the run that the file names
    names = data["names"]
    (tmp_path / "meta.csv").write_text("path,owner\n" + "".join(f"{name},me\n" for name in names[:40]))  # type: ignore[index]
    table = clr(
        "plot", "embeddings", tmp_path / "h.npz", "--projection", "pca", "--limit", "50", "--metadata",
        tmp_path / "meta.csv", "--out", tmp_path / "map.parquet", cwd=trained,
    )  # fmt: skip
    assert table.code == 0, table.err
    assert "10 of 50 images are not in meta.csv" in table.err
    columns = parquet.read_table(tmp_path / "map.parquet").to_pydict()
    assert len(columns["image"]) == 50
    assert columns["image"][0]["bytes"][:2] == b"\xff\xd8"
    assert columns["owner"].count("me") == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npz", "b.npz"], "2 files do not go into one map"),
        (["a.npz", "b.npz", "c.npz", "--out", "m.html"], "3 files do not go into one map"),
        (["a.npz", "b.npz", "--out", "m.parquet"], "2 files do not go into one map"),
        (["a.npz", "--out", "m.gif"], "maps are .png, .svg, .pdf, .jpg, .jpeg, .webp, .html or .parquet"),
        (["a.npz", "--metadata", "m.csv"], "--metadata would be ignored beside a figure"),
        (["a.npz", "--data-dir", "x"], "--data-dir would be ignored beside FILE"),
        (["a.npz", "--out", "m.png", "--projection", "pca,tsne"], "2 projections"),
    ],
)
def test_plot__what_does_not_fit_together_is_refused(
    clr: Clr, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = clr("plot", "embeddings", *arguments, cwd=tmp_path)
    assert (result.code, message in result.err) == (2, True), result.err

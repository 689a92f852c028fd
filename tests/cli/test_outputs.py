"""What is computed can be had as a table, and nothing of another origin is written over."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from clr_process import Clr
from PIL import Image

from contrastive_cli.embeddings.files import Embeddings, read_embeddings, write_embeddings

GENERATOR = np.random.default_rng(0)


def paint(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(GENERATOR.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / f"{number:02d}.png")


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_knn__two_files_of_one_stem_do_not_share_an_output(clr: Clr, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GENERATOR.normal(size=(9, 4)))
    np.savez(tmp_path / "a.npz", embeddings=GENERATOR.normal(size=(9, 4)))
    assert clr("knn", "a.npy", "-k", "2", cwd=tmp_path).code == 0
    before = (tmp_path / "a-neighbors.pkl").read_bytes()
    refused = clr("knn", "a.npz", "-k", "2", cwd=tmp_path)
    assert refused.code == 5
    assert "a-neighbors.pkl exists and holds neighbors of a.npy" in refused.err
    assert "--overwrite" in refused.err
    assert clr("knn", "a.npy", "-k", "2", "--metric", "euclidean", cwd=tmp_path).code == 5
    assert (tmp_path / "a-neighbors.pkl").read_bytes() == before
    assert clr("knn", "a.npy", "-k", "2", cwd=tmp_path).code == 0  # the same command again
    assert clr("knn", tmp_path / "a.npy", "-k", "3", cwd=tmp_path.parent).code == 0  # from elsewhere
    assert clr("knn", "a.npz", "-k", "2", "--overwrite", cwd=tmp_path).code == 0
    (tmp_path / "letter.pkl").write_bytes(b"not ours")
    assert clr("knn", "a.npy", "--out", "letter.pkl", cwd=tmp_path).code == 5
    assert (tmp_path / "letter.pkl").read_bytes() == b"not ours"


def test_embed__of_another_run_or_other_images_writes_over_nothing(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", str(trained / "runs" / "small")]
    paint(tmp_path / "photos", 3)
    paint(tmp_path / "others", 3)
    assert clr("embed", "photos", *run, cwd=tmp_path).code == 0
    before = (tmp_path / "embeddings.pkl").read_bytes()
    for other in (["others"], [], ["photos", "--layer", "z"]):
        refused = clr("embed", *other, *run, cwd=tmp_path)
        assert refused.code == 5, refused.err
        assert "embeddings.pkl exists and holds embeddings of" in refused.err
    shutil.copytree(trained / "runs" / "small", tmp_path / "runs" / "copy")
    refused = clr("embed", "photos", "--run", "copy", cwd=tmp_path)
    assert (refused.code, "holds embeddings of small" in refused.err) == (5, True)
    assert (tmp_path / "embeddings.pkl").read_bytes() == before
    assert clr("embed", "photos", *run, cwd=tmp_path).code == 0
    assert clr("embed", "others", *run, "--overwrite", cwd=tmp_path).code == 0


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_embed__a_table_is_read_again(clr: Clr, trained: Path, tmp_path: Path, suffix: str) -> None:
    run = ["--run", str(trained / "runs" / "small")]
    paint(tmp_path / "=photos", 3)
    assert clr("embed", "=photos", *run, "--out", "x.pkl", cwd=tmp_path).code == 0
    assert clr("embed", "=photos", *run, "--out", f"x.{suffix}", cwd=tmp_path).code == 0
    whole, table = read_embeddings(tmp_path / "x.pkl"), read_embeddings(tmp_path / f"x.{suffix}")
    np.testing.assert_allclose(table.vectors, whole.vectors, rtol=1e-6)
    assert whole.paths is not None
    assert table.paths == tuple(f"./{path}" if suffix == "csv" else path for path in whole.paths)
    refused = clr("embed", "=photos", *run, "--out", f"x.{suffix}", cwd=tmp_path)
    assert (refused.code, "--overwrite" in refused.err) == (5, True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_write_embeddings__tables_hold_labels_and_uncertainty(tmp_path: Path, suffix: str) -> None:
    vectors = GENERATOR.normal(size=(3, 4)).astype(np.float32)
    labels = np.array([1, -1, 0])
    embeddings = Embeddings(
        vectors=vectors, labels=labels, classes=("=cat", "dog"), paths=("a", "b\nc", "d"), uncertainty=vectors[:, 0]
    )
    write_embeddings(tmp_path / f"x{suffix}", embeddings)
    found = read_embeddings(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(found.vectors, vectors)
    np.testing.assert_array_equal(found.uncertainty, vectors[:, 0])
    assert found.labels is not None
    assert found.labels.tolist() == [1, -1, 0]
    assert found.classes == (("'=cat" if suffix == ".csv" else "=cat"), "dog")
    assert found.paths == ("a", "b\nc", "d")
    write_embeddings(tmp_path / f"y{suffix}", Embeddings(vectors=vectors))
    np.testing.assert_array_equal(read_embeddings(tmp_path / f"y{suffix}").vectors, vectors)


def test_knn__neighbors_as_json_csv_and_on_the_screen(clr: Clr, tmp_path: Path) -> None:
    vectors = GENERATOR.normal(size=(8, 4)).astype(np.float32)
    write_embeddings(tmp_path / "x.pkl", Embeddings(vectors=vectors, paths=tuple("abcdefgh")))
    found = clr("knn", "x.pkl", "-k", "5", "--json", cwd=tmp_path).json
    assert [entry["item"] for entry in found["neighbors"]] == list("abcdefgh")
    first = found["neighbors"][0]["neighbors"]
    assert len(first) == 5
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(
        [near["similarity"] for near in first], np.sort(units[1:] @ units[0])[::-1][:5], atol=1e-5
    )
    shown = clr("knn", "x.pkl", "-k", "5", cwd=tmp_path)
    assert "item\trank\tneighbor\tcosine similarity" in shown.out
    lines = [f"a\t{rank}\t{near['item']}\t{near['similarity']:.4f}" for rank, near in enumerate(first, start=1)]
    assert "\n".join(lines) in shown.out
    assert clr("knn", "x.pkl", "-k", "5", "--out", "near.csv", cwd=tmp_path).code == 0
    rows = rows_of(tmp_path / "near.csv")
    assert len(rows) == 40
    assert list(rows[0]) == ["item", "rank", "neighbor", "index", "similarity"]
    assert [row["neighbor"] for row in rows[:5]] == [near["item"] for near in first]
    assert clr("knn", "x.pkl", "-k", "5", "--out", "near.csv", cwd=tmp_path).code == 5
    done = clr("knn", "x.pkl", "-k", "2", "--metric", "euclidean", "--out", "near.jsonl", cwd=tmp_path)
    assert "euclidean distance" in done.out
    lines = [json.loads(line) for line in (tmp_path / "near.jsonl").read_text().splitlines()]
    assert len(lines) == 16
    assert "distance" in lines[0]
    assert "similarity" not in lines[0]


def test_knn__a_query_is_not_its_own_neighbor_and_can_be_written(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", str(trained / "runs" / "small")]
    paint(tmp_path / "photos", 6)
    shutil.copy(tmp_path / "photos" / "02.png", tmp_path / "photos" / "copy.png")
    assert clr("embed", "photos", *run, cwd=tmp_path).code == 0
    look_up = ["knn", "embeddings.pkl", "--query", "photos/02.png", *run, "-k", "3"]
    found = clr(*look_up, "--json", cwd=tmp_path)
    near = [entry["item"] for entry in found.json["queries"][0]["neighbors"]]
    assert near[0] == "photos/copy.png"  # a copy is a finding
    assert "photos/02.png" not in near
    assert "--include-self keeps them" in found.err
    assert len(near) == 3
    with_self = clr(*look_up, "--include-self", "--json", cwd=tmp_path).json["queries"][0]["neighbors"]
    assert {entry["item"] for entry in with_self[:2]} == {"photos/02.png", "photos/copy.png"}
    for name in ("near.csv", "near.pkl"):
        written = clr(*look_up, "--out", name, cwd=tmp_path)
        assert written.code == 0, written.err
        assert name in written.out
    assert [row["neighbor"] for row in rows_of(tmp_path / "near.csv")] == near
    assert clr(*look_up, "--out", "near.pkl", cwd=tmp_path).code == 0
    everything = clr(*look_up[:-1], "7", "--json", cwd=tmp_path).json["queries"][0]["neighbors"]
    assert len(everything) == 6


def test_similarity__tables_and_the_names_of_the_files(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", str(trained / "runs" / "small")]
    paint(tmp_path / "photos", 6)
    images = [f"photos/{number:02d}.png" for number in range(3)]
    done = clr("similarity", *images, *run, "--out", "s.csv", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "s.csv" in done.out
    rows = rows_of(tmp_path / "s.csv")
    assert [(row["path_a"], row["path_b"]) for row in rows] == [
        (images[0], images[1]),
        (images[0], images[2]),
        (images[1], images[2]),
    ]
    assert -1 <= float(rows[0]["similarity"]) <= 1
    assert clr("similarity", *images, *run, "--out", "s.csv", cwd=tmp_path).code == 5
    pairs = ["path_a,path_b,same", *(f"photos/0{a}.png,photos/0{b}.png,{s}" for a, b, s in
             [(0, 1, 1), (1, 2, 1), (2, 3, 0), (3, 4, 0)])]  # fmt: skip
    (tmp_path / "pairs.csv").write_text("\n".join(pairs) + "\n")
    verified = clr("similarity", "--pairs", "pairs.csv", *run, "--out", "p.jsonl", cwd=tmp_path)
    assert verified.code == 0, verified.err
    named = [line for line in verified.out.splitlines() if line.endswith((".csv", ".png", ".jsonl"))]
    assert len(named) == 4
    assert all(Path(tmp_path / line).is_file() for line in named)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["same"] for line in lines] == [1, 1, 0, 0]
    assert set(lines[0]) == {"path_a", "path_b", "same", "similarity"}
    assert clr("similarity", *images, *run, "--out", "s.pkl", cwd=tmp_path).code == 2

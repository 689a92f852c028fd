"""`clr embed` into a folder of shards, and the commands that read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from clr_process import Clr
from PIL import Image

from contrastive_cli.embeddings.files import read_embeddings, read_neighbors

SHARDS = ["--max-file", str(8 * 512 * 32 * 4)]  # of 512 images each, a multiple of a pass


def test_embed__into_a_folder_that_others_read(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", str(trained / "runs/small"), "--split", "train"]
    said = clr("embed", *run, "--out", "digits", *SHARDS, "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    assert (said.json["file"], said.json["shards"], said.json["count"]) == ("digits", 3, 1438)
    again = clr("embed", *run, "--out", "digits/", *SHARDS, cwd=tmp_path)
    assert again.out.startswith("digits: 1438 embeddings of width 32 from small in 3 shards (h ")
    assert "3 of 3 shards are there already" in again.err

    assert clr("embed", *run, "--out", "digits.npz", cwd=tmp_path).code == 0
    folder, file = read_embeddings(tmp_path / "digits"), read_embeddings(tmp_path / "digits.npz")
    assert np.array_equal(folder.vectors, file.vectors)
    for source, out in (("digits", "of-folder.npz"), ("digits.npz", "of-file.npz")):
        assert clr("knn", source, "-k", "3", "--out", out, cwd=tmp_path).code == 0
    assert np.array_equal(
        read_neighbors(tmp_path / "of-folder.npz").indices, read_neighbors(tmp_path / "of-file.npz").indices
    )
    looked_up = clr("knn", "digits", "--queries", "digits", "-k", "1", cwd=tmp_path)
    assert looked_up.code == 0, looked_up.err
    assert (tmp_path / "digits-neighbors.pkl").is_file()
    drawn = clr("plot", "embeddings", "digits", "--projection", "pca", "--out", "map.png", cwd=tmp_path)
    assert drawn.code == 0, drawn.err
    with Image.open(tmp_path / "map.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    refused = clr("embed", *run, "--layer", "z", "--out", "digits", *SHARDS, cwd=tmp_path)
    assert refused.code == 5
    assert "digits exists and holds embeddings of another layer: h" in refused.err


def test_embed__more_than_a_file_may_hold_becomes_a_folder(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", str(trained / "runs/small")]
    said = clr("embed", *run, "--out", "digits.npz", "--max-file", "20KB", "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    assert "are more than --max-file: shards go into digits in place of digits.npz" in said.err
    assert said.json["file"] == "digits"
    assert not (tmp_path / "digits.npz").exists()
    assert clr("embed", *run, "--max-file", "much", cwd=tmp_path).code == 2


def test_knn__of_a_folder_that_was_not_finished(clr: Clr, trained: Path, tmp_path: Path) -> None:
    assert clr("embed", "--run", trained / "runs/small", "--out", "digits", cwd=tmp_path).code == 0
    index = json.loads((tmp_path / "digits/index.json").read_text())
    (tmp_path / "digits/index.json").write_text(json.dumps({**index, "finished": False}))
    refused = clr("knn", "digits", cwd=tmp_path)
    assert refused.code == 3
    assert "digits is not finished" in refused.err
    assert "it goes on from there" in refused.err
    assert not (tmp_path / "digits-neighbors.pkl").exists()


def test_knn__several_processes_search_a_file(clr: Clr, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((4500, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", vectors)
    for processes in ("1", "2"):
        said = clr("knn", "x.npy", "-k", "5", "--out", f"{processes}.pkl", "--processes", processes, cwd=tmp_path)
        assert said.code == 0, said.err
        assert said.out.count("neighbors of 4500 embeddings\n") == 1
    one, two = (tmp_path / f"{processes}.pkl" for processes in ("1", "2"))
    assert one.read_bytes() == two.read_bytes()
    for more in (["--approximate"], ["--query", "x.png"]):
        refused = clr("knn", "x.npy", *more, "--processes", "2", cwd=tmp_path)
        assert refused.code == 2
        assert f"{more[0]} is searched by one process" in refused.err

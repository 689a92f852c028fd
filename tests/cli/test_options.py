"""Options that would be ignored are refused, and what is found is said: as typed."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from clr_process import TINY, Clr
from PIL import Image


def paint(folder: Path, count: int) -> None:
    """Noise pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(generator.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / f"{number:02d}.png")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pretrain", "--data-dir", "photos", "--epochs", "0.1"], 2, "--dataset folder"),
        (["pretrain", "--epochs", "1e30"], 2, "less than or equal to 1000000"),
        (["pretrain", "--out", "photos", "--overwrite", "--epochs", "0.1"], 5, "photos is no run"),
        (["pretrain", "--out", "photos", "--epochs", "0.1"], 5, "photos exists, and is no run"),
        (
            ["pretrain", "--method", "supcon", "--set", "train.images_per_class=200", "--batch-size", "256"],
            2,
            "no second class",
        ),
        (["knn", "x.npy", "--device", "cpu"], 2, "--device would be ignored"),
        (["knn", "x.npy", "--include-self"], 2, "--include-self would be ignored"),
        (["plot", "embeddings", "x.npy", "--split", "train"], 2, "--split would be ignored"),
        (["similarity", "--root", ".", "photos/00.png", "photos/01.png"], 2, "--root would be ignored"),
        (["datasets", "--split", "test"], 2, "--split would be ignored"),
        (["embed", "photos", "--split", "test"], 2, "--split would be ignored"),
        (["embed", "photos", "--max-bad", "-1"], 2, "--max-bad"),
        (["runs", "nowhere"], 5, "no folder 'nowhere'"),
    ],
)
def test_options__what_would_be_ignored_is_refused(
    clr: Clr, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    paint(tmp_path / "photos", 2)
    np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
    result = clr(*arguments, cwd=tmp_path)
    assert result.code == code, result.err
    assert said in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "x.npy"]


def test_embed_knn_plot__of_photographs(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", str(trained / "runs" / "small")]
    paint(tmp_path / "photos", 12)
    (tmp_path / "photos" / "broken.png").write_bytes(b"x")
    refused = clr("embed", "photos", *run, "--max-bad", "0", cwd=tmp_path)
    assert refused.code == 3
    assert "1 of 13 files cannot be used" in refused.err
    embedded = clr("embed", "photos", "photos/00.png", *run, "--json", cwd=tmp_path)
    assert embedded.json["count"] == 12  # a file that is named twice is embedded once
    assert clr("knn", "embeddings.pkl", "-k", "3", cwd=tmp_path).code == 0
    drawn = clr("plot", "neighbors", "embeddings-neighbors.pkl", cwd=tmp_path)
    assert drawn.code == 0, drawn.err
    with Image.open(tmp_path / "embeddings-neighbors.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    wrong = clr("knn", "embeddings-neighbors.pkl", cwd=tmp_path)
    assert wrong.code == 3
    assert "holds neighbors, not embeddings" in wrong.err
    (tmp_path / "photos" / "03.png").unlink()
    assert clr("plot", "neighbors", "embeddings-neighbors.pkl", cwd=tmp_path).code == 3
    matrix = clr("similarity", *[f"photos/{number:02d}.png" for number in (0, 1, 2, 4, 5)] * 5, *run, cwd=tmp_path)
    rows = [line.split("\t") for line in matrix.out.splitlines() if "photos/" in line]
    assert len(rows) == 25 * 24 / 2  # in a pipe a line for each pair
    same = [similarity for first, second, similarity in rows if first == second]
    assert same == ["1.000"] * (5 * 10)  # each of the five stands there five times: ten pairs of equal ones


def test_knn__zero_vectors_are_told_of_and_small_distances_shown(clr: Clr, tmp_path: Path) -> None:
    vectors = np.ones((3, 4), np.float32)
    vectors[1, 0] += 1e-2
    vectors[2] = 0
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(vectors))
    found = clr("knn", "x.pkl", cwd=tmp_path)
    assert "1 of 3 vectors are zero" in found.err
    assert "e-0" in found.out


def test_pretrain__overwrite_says_where_the_old_run_is(clr: Clr, tmp_path: Path) -> None:
    command = ["pretrain", *TINY, "--epochs", "0.1", "--out", "run", "--overwrite"]
    assert clr(*command, cwd=tmp_path).code == 0
    again = clr(*command, cwd=tmp_path)
    assert again.code == 0
    (old,) = tmp_path.glob("run.*")
    assert f"the run that was there is {old.name} now" in again.err


def test_datasets__saves_images_of_the_split_that_is_asked(clr: Clr, tmp_path: Path) -> None:
    one, two = (
        clr("datasets", "digits", "--save-images", split, "--split", split, "--count", "1", "--json", cwd=tmp_path)
        for split in ("train", "test")
    )
    assert (tmp_path / one.json["files"][0]).read_bytes() != (tmp_path / two.json["files"][0]).read_bytes()

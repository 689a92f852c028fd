"""`--space` and `--crops` as typed: files say what they hold, and are turned rather than compared across spaces."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from clr_process import Clr

from contrastive_cli.embeddings.files import read_embeddings, read_neighbors


def test_embed_and_knn__spaces_as_typed(clr: Clr, trained: Path, tmp_path: Path) -> None:
    chosen = json.loads((trained / "runs/small/eval/space.json").read_bytes())
    run = ["--run", trained / "runs/small"]
    default = clr("embed", *run, "--out", "default.npz", "--json", cwd=tmp_path)
    assert default.code == 0, default.err
    assert (default.json["space"], default.json["layer"]) == (chosen["space"], chosen["layer"])
    for kind in ("raw", "whitened"):
        made = clr("embed", *run, "--space", kind, "--out", f"{kind}.pkl", cwd=tmp_path)
        assert kind in made.out, made.err
        assert pickle.loads((tmp_path / f"{kind}.pkl").read_bytes())["model"]["space"] == kind
    refused = clr("embed", *run, "--space", "raw", "--out", "whitened.pkl", cwd=tmp_path)
    assert refused.code == 5
    assert "holds whitened embeddings" in refused.err
    for source, options in (("raw.pkl", []), ("whitened.pkl", ["--space", "raw"])):
        found = clr("knn", source, "-k", "5", *options, "--out", f"{source}-near.npz", cwd=tmp_path)
        assert found.code == 0, found.err
    raw, turned = (read_neighbors(tmp_path / f"{name}.pkl-near.npz") for name in ("raw", "whitened"))
    assert (raw.indices[:, 0] == turned.indices[:, 0]).mean() > 0.99
    np.testing.assert_allclose(raw.distances, turned.distances, atol=1e-4)
    looked_up = clr("knn", "whitened.pkl", "--queries", "raw.pkl", "-k", "1", "--out", "own.npz", cwd=tmp_path)
    assert looked_up.code == 0, looked_up.err
    own = read_neighbors(tmp_path / "own.npz")
    assert np.array_equal(own.indices[:, 0], np.arange(len(own.indices)))  # across the spaces each finds itself
    assert own.distances.max() < 1e-3


def test_knn__a_query_is_turned_like_the_file(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", trained / "runs/small"]
    saved = clr("datasets", "digits", "--save-images", "png", "--count", "3", "--json", cwd=tmp_path)
    options = ["--space", "whitened", "--crops", "6"]
    assert clr("embed", *run, *options, "--out", "six.npz", cwd=tmp_path).code == 0
    assert read_embeddings(tmp_path / "six.npz").model["crops"] == 6
    query = ["--query", saved.json["files"][1], *run, "-k", "1", "--json"]
    found = clr("knn", "six.npz", *query, cwd=tmp_path)
    assert found.code == 0, found.err
    assert found.json["queries"][0]["neighbors"][0]["distance"] < 5e-3
    assert clr("embed", *run, "--crops", "3", cwd=tmp_path).code == 2


def test_knn__a_table_says_that_it_does_not_say_its_space(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", trained / "runs/small"]
    saved = clr("datasets", "digits", "--save-images", "png", "--count", "1", "--json", cwd=tmp_path)
    assert clr("embed", *run, "--space", "whitened", "--out", "table.csv", cwd=tmp_path).code == 0
    query = ["--query", saved.json["files"][0], *run, "-k", "1", "--json"]
    found = clr("knn", "table.csv", *query, "--space", "whitened", cwd=tmp_path)
    assert found.code == 0, found.err
    assert "does not say which space" in found.err
    assert found.json["queries"][0]["neighbors"][0]["distance"] < 5e-3
    untold = clr("knn", "table.csv", "--query", saved.json["files"][0], cwd=tmp_path)
    assert untold.code == 2
    assert "table.csv does not say which encoder made it" in untold.err
    turned = clr("knn", "table.csv", "--space", "whitened", cwd=tmp_path)
    assert turned.code == 3
    assert "of an unknown space that carry no axes" in turned.err


def test_similarity_and_plot__take_the_space(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = ["--run", trained / "runs/small"]
    files = clr("datasets", "digits", "--save-images", "png", "--count", "2", "--json", cwd=tmp_path).json["files"]
    cosines = {}
    for kind in ("raw", "whitened"):
        compared = clr("similarity", *files, *run, "--space", kind, "--json", cwd=tmp_path)
        assert compared.code == 0, compared.err
        assert compared.json["space"] == kind
        cosines[kind] = compared.json["similarity"]
    assert cosines["whitened"] < cosines["raw"]  # raw embeddings share their mean
    drawn = clr(
        "plot", "embeddings", *run, "--space", "whitened", "--projection", "pca", "--out", "x.png", cwd=tmp_path
    )
    assert drawn.code == 0, drawn.err
    assert clr("plot", "views", *run, "--space", "raw", cwd=tmp_path).code == 2


def test_knn__queries_of_another_encoder_or_layer_are_refused(clr: Clr, trained: Path, tmp_path: Path) -> None:
    made = {}
    for layer, options in (("h", ()), ("z", ("--layer", "z"))):
        made[layer] = tmp_path / f"{layer}.pkl"
        done = clr("embed", "--run", trained / "runs/small", "--out", made[layer], *options, cwd=trained)
        assert done.code == 0, done.err
    assert clr("knn", made["h"], "--queries", made["h"], "--out", tmp_path / "own.pkl", cwd=tmp_path).code == 0
    done = clr("knn", made["h"], "--queries", made["z"], "--out", tmp_path / "n.pkl", cwd=tmp_path)
    assert done.code == 2
    assert "made by small (z), those that are searched by small (h)" in done.err
    other = pickle.loads(made["h"].read_bytes())
    other["model"] |= {"run": "another", "checkpoint": "0" * 64}
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(other))
    done = clr("knn", made["h"], "--queries", tmp_path / "other.pkl", "--out", tmp_path / "n.pkl", cwd=tmp_path)
    assert done.code == 2
    assert "made by another (h)" in done.err
    assert not (tmp_path / "n.pkl").exists()


def test_knn__space_of_a_file_that_does_not_say_which_it_holds(clr: Clr, tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", np.eye(6, dtype=np.float32))
    for space in ("raw", "whitened"):
        done = clr("knn", tmp_path / "bare.npy", "--space", space, "-k", "2", cwd=tmp_path)
        assert done.code == 3
        assert "embeddings of an unknown space" in done.err

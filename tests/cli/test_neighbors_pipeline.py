"""Mined neighbors as positives, command by command."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from clr_process import TINY, Clr


def test_neighbors__from_embed_to_pretrain(clr: Clr, trained: Path, tmp_path: Path) -> None:
    embedded = clr("embed", "--run", trained / "runs/small", "--split", "train", cwd=tmp_path)
    assert embedded.code == 0, embedded.err
    mined = clr("knn", "embeddings.pkl", "-k", "3", "--json", cwd=tmp_path)
    assert mined.code == 0, mined.err
    assert mined.json["file"] == "embeddings-neighbors.pkl"
    byol = ["--method", "byol", "--neighbors", "embeddings-neighbors.pkl", *TINY]
    mix = ["--set", "method.positives=mix", "--epochs", "1"]
    started = clr("pretrain", *byol, *mix, "--out", "runs/mix", cwd=tmp_path)
    assert started.code == 0, started.err
    manifest = json.loads((tmp_path / "runs/mix/manifest.json").read_bytes())
    facts = manifest["neighbors"]
    assert facts["fingerprint"] == manifest["dataset"]["fingerprint"]
    assert (facts["count"], facts["per_image"], facts["metric"]) == (1438, 3, "cosine")
    assert f"{100 * facts['purity']:.1f} % of them are of its class" in started.err
    config = yaml.safe_load((tmp_path / "runs/mix/config.yaml").read_text())
    assert Path(config["neighbors"]).samefile(tmp_path / "embeddings-neighbors.pkl")

    # A run can be used when the file is gone; going on with it needs the file as it was.
    (tmp_path / "embeddings-neighbors.pkl").write_bytes((tmp_path / "embeddings.pkl").read_bytes())
    (tmp_path / "runs/mix/manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    resumed = clr("pretrain", "--resume", "runs/mix", cwd=tmp_path)
    assert resumed.code == 3
    assert "not a file of neighbors" in resumed.err

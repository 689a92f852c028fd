"""Finetuning and evaluation over labels as typed, on one small run of the digits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from clr_process import Clr
from PIL import Image


def test_finetune_linear_eval_plot__work_as_typed(clr: Clr, trained: Path) -> None:
    options = ["--label-fraction", "0.05", "--epochs", "20", "--device", "cpu", "--out", "tuned/small"]
    tuned = clr("finetune", "--run", "small", *options, "--json", cwd=trained)
    assert tuned.code == 0, tuned.err
    run = trained / "tuned" / "small"
    written = json.loads((run / "eval" / "finetune-digits.json").read_bytes())
    assert tuned.json["accuracy"] == written["accuracy"]
    assert written["parent"]["run"] == "small"
    assert len(written["train_indices"]) == written["labels"] == tuned.json["labels"] < 100

    manifest = json.loads((run / "manifest.json").read_bytes())
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    resumed = clr("pretrain", "--resume", "tuned/small", cwd=trained)
    assert resumed.code == 0, resumed.err
    assert f"accuracy {100 * written['accuracy']:.1f} %" in resumed.out

    table = clr(
        *["linear-eval", "--run", "tuned/small", "--head", "linear", "--baseline", "none"],
        *["--label-fraction", "0.05,0.1", "--seeds", "2", "--json"],
        cwd=trained,
    )
    assert table.code == 0, table.err
    assert "labels-digits.png" in table.err
    subsets = {(one["label_fraction"], one["seed"]): one for one in table.json["subsets"]}
    assert subsets.keys() == {(fraction, seed) for fraction in (0.05, 0.1) for seed in (0, 1)}
    with np.load(run / "eval" / "linear-digits-images.npz") as arrays:
        for (fraction, seed), one in subsets.items():
            indices = arrays[f"fraction-{fraction:g}-seed-{seed}"]
            assert len(indices) == one["labels"]
            assert hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest() == one["sha256"]
        few, more = (set(arrays[f"fraction-{fraction}-seed-0"].tolist()) for fraction in ("0.05", "0.1"))
    assert few < more
    assert few == set(written["train_indices"])  # finetuning and the heads are given the same labels

    drawn = clr("plot", "labels", "--run", "tuned/small", "--json", cwd=trained)
    assert drawn.code == 0, drawn.err
    with Image.open(trained / drawn.json["file"]) as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50

"""Uncertainty from training to figure, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clr_process import TINY, Clr
from PIL import Image


@pytest.mark.slow
def test_plot_uncertainty__of_a_trained_run(clr: Clr, tmp_path: Path) -> None:
    trained = clr("pretrain", "--method", "prob-simclr", *TINY, "--epochs", "1", "--out", "run", cwd=tmp_path)
    assert trained.code == 0, trained.err
    plotted = clr("plot", "uncertainty", "--run", "run", "--limit", "200", "--json", cwd=tmp_path)
    assert plotted.code == 0, plotted.err
    found = plotted.json
    assert found["images"] == 200
    assert 0 <= found["retrieval"]["r_auroc"] <= 1
    assert sum(found["retrieval"]["bins"]["count"]) == 200
    assert found["rejection"]["area"] <= found["rejection"]["best_area"]
    assert found["rejection"]["accuracy_of_kept"][-1] == found["rejection"]["accuracy"]
    assert set(found["degradation"]) == {"crop", "blur", "noise"}
    written = json.loads((tmp_path / "run/eval/uncertainty-digits.json").read_bytes())
    assert written == {key: value for key, value in found.items() if key not in ("file", "kind")}
    with Image.open(tmp_path / found["file"]) as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    embedded = clr("embed", "--run", "run", "--layer", "z", "--out", "z.npz", "--json", cwd=tmp_path)
    assert embedded.json["uncertainty"] is True
    with np.load(tmp_path / "z.npz") as file:
        assert file["uncertainty"].shape == (359,)
        assert np.ptp(file["uncertainty"]) > 0


def test_plot_uncertainty__refuses_a_method_without(clr: Clr, trained: Path) -> None:
    result = clr("plot", "uncertainty", "--run", "runs/small", cwd=trained)
    assert result.code == 2
    assert "no uncertainty" in result.err
    assert "Traceback" not in result.err

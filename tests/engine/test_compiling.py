"""A compiled encoder trains as the plain one does, and a machine that cannot compile gets one line."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from clr_process import Clr
from torch import nn

from contrastive_cli.core.errors import TrainingError
from contrastive_cli.engine.compiling import compiled_encoder


class Small(nn.Module):
    """As much of a method as is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def test_compiled_encoder__says_in_one_line_that_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    if torch.__version__ < "2.14":
        pytest.skip("2.11 compiles without asking this setting")
    monkeypatch.setattr(config.cpp, "cxx", ("/nowhere/c++",))
    method = Small()
    with (
        pytest.raises(TrainingError, match="the encoder cannot be compiled here: ") as caught,
        compiled_encoder(method),  # type: ignore[arg-type]
        config.patch(force_disable_caches=True),
    ):
        method.encoder(torch.zeros(2, 4))
    assert "\n" not in caught.value.message
    assert method.encoder(torch.zeros(2, 4)).shape == (2, 4)  # and it is as before


@pytest.mark.slow
def test_pretrain__compile_changes_no_result_but_rounding(clr: Clr, tmp_path: Path) -> None:
    small = ["--set", "encoder.width=4", "--set", "encoder.embedding_dim=16", "--set", "train.evaluations=1"]
    common = [*small, "--epochs", "1", "--device", "cpu", "--precision", "fp32", "--method", "moco", "--json"]
    losses: list[str] = []
    for extra in ([], ["--compile"]):
        out = tmp_path / f"run{len(losses)}"
        result = clr("pretrain", *common, *extra, "--out", str(out), cwd=tmp_path)
        assert result.code == 0, result.err
        losses.append((out / "metrics.jsonl").read_text())
        assert ("compile: true" in (out / "config.yaml").read_text()) == bool(extra)
    found, expected = (
        [float(line.split('"train/loss": ')[1].split(",")[0]) for line in text.splitlines()] for text in losses
    )
    assert found == pytest.approx(expected, rel=1e-2)


def test_compiled_encoder__leaves_names_and_copies_alone() -> None:
    method = Small()
    names = list(method.state_dict())
    with compiled_encoder(method):  # type: ignore[arg-type]
        assert list(method.state_dict()) == names
        copied = copy.deepcopy(method)
        assert list(copied.state_dict()) == names
    assert method.encoder._compiled_call_impl is None

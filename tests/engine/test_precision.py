from __future__ import annotations

import pytest
import torch

from contrastive_cli.core.errors import UsageError
from contrastive_cli.engine import precision
from contrastive_cli.engine.precision import Precision, autocast, bf16_speedup, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("instructions", "speedup", "expected"),
    [
        (True, 3.0, "bf16"),
        (True, 0.8, "bf16"),  # noise
        (True, 0.2, "fp32"),  # a reference kernel
        (False, 3.0, "bf16"),
        (False, 1.1, "fp32"),
        (False, 0.2, "fp32"),
    ],
)
def test_choose_precision__cpu_follows_the_probe(
    monkeypatch: pytest.MonkeyPatch, instructions: bool, speedup: float, expected: Precision
) -> None:
    monkeypatch.setattr(precision, "_has_bf16_instructions", lambda: instructions)
    monkeypatch.setattr(precision, "bf16_speedup", lambda device: speedup)
    monkeypatch.setattr(precision, "_has_onednn", lambda: True)
    assert choose_precision("auto", CPU) == expected


def test_choose_precision__cpu_without_onednn_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bf16_speedup", lambda device: 3.0)
    monkeypatch.setattr(precision, "_has_onednn", lambda: False)
    assert choose_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize("requested", ["fp32", "bf16"])
def test_choose_precision__a_request_is_not_probed(monkeypatch: pytest.MonkeyPatch, requested: Precision) -> None:
    monkeypatch.delattr(precision, "bf16_speedup")
    assert choose_precision(requested, CPU) == requested


def test_choose_precision__unsupported_request_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(torch, "mm", refuse)
    with pytest.raises(UsageError, match="bf16 on cpu"):
        choose_precision("bf16", CPU)


def test_choose_precision__auto_on_mps_is_fp32() -> None:
    assert choose_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_choose_precision__cuda_asks_the_gpu(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: Precision
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert choose_precision("auto", torch.device("cuda")) == expected


def test_bf16_speedup__leaves_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with torch.no_grad():
        assert bf16_speedup(CPU) > 0
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast__sets_the_format(name: Precision, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(CPU, name):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == dtype

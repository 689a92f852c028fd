from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from contrastive_cli.core.choices import Precision
from contrastive_cli.core.errors import UsageError
from contrastive_cli.engine import precision
from contrastive_cli.engine.precision import (
    BF16_INSTRUCTIONS,
    autocast,
    bf16_speedup,
    choose_precision,
    cpu_instructions,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("instructions", "speedup", "expected"),
    [
        ({"amx_bf16", "avx512_bf16"}, 3.0, "bf16"),
        ({"avx512_bf16", "avx2"}, 0.6, "bf16"),  # noise does not count
        ({"bf16", "neon"}, 1.0, "bf16"),
        ({"avx512_bf16"}, 0.05, "fp32"),  # a reference kernel
        ({"avx512f", "avx2"}, 5.0, "fp32"),  # a race that was won on a busy machine does not count either
        (set(), 5.0, "fp32"),
    ],
)
def test_choose_precision__cpu_is_asked_what_it_is(
    monkeypatch: pytest.MonkeyPatch, instructions: set[str], speedup: float, expected: Precision
) -> None:
    monkeypatch.setattr(precision, "cpu_instructions", lambda: frozenset(instructions))
    monkeypatch.setattr(precision, "bf16_speedup", lambda: speedup)
    monkeypatch.setattr(precision, "_has_onednn", lambda: True)
    assert choose_precision("auto", CPU) == expected


def test_choose_precision__cpu_without_onednn_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bf16_speedup", lambda: 3.0)
    monkeypatch.setattr(precision, "_has_onednn", lambda: False)
    assert choose_precision("auto", CPU) == "fp32"


def test_choose_precision__is_the_same_while_the_cores_are_busy() -> None:
    choices = {choose_precision("auto", CPU) for _ in range(2)}
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            torch.ones(200, 200) @ torch.ones(200, 200)

    threads = [threading.Thread(target=burn) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        choices |= {choose_precision("auto", CPU) for _ in range(4)}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(choices) == 1


def test_cpu_instructions__are_read_from_the_kernel_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    told = cpu_instructions() & BF16_INSTRUCTIONS
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    if Path("/proc/cpuinfo").exists():
        assert cpu_instructions() & BF16_INSTRUCTIONS == told
    monkeypatch.setattr(precision.platform, "system", lambda: "Darwin")  # type: ignore[attr-defined]
    assert cpu_instructions() == frozenset()


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


def test_bf16_speedup__leaves_random_numbers_and_threads_alone() -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with torch.no_grad():
        assert bf16_speedup() > 0
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast__sets_the_format(name: Precision, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(CPU, name):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == dtype

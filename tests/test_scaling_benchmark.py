"""The computation of steps on paper against closed forms, and the benchmark on the smallest sizes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torchvision
from clr_process import REPOSITORY, clr_environment

from benchmarks.scaling_model import Link, Work, efficiency, predict
from benchmarks.scaling_paper import MODELS, counted, data, limits, pieces_of, table, work_on_gpu

WORK = Work(
    look=0.01,
    learn=0.03,
    pair=1e-6,
    optimizer=0.002,
    views=2,
    row_bytes=512,
    gradient_bytes=8_000_000,
    statistics_bytes=1000,
)
LINK = Link(hop=1e-3, gather_rate=1e8, doubling=2e-3, sum_rate=2e8, word=1e-4)
FREE = Link(hop=0.0, gather_rate=float("inf"), doubling=0.0, sum_rate=float("inf"), word=0.0)


def test_predict__one_process_pays_for_its_work_alone() -> None:
    step = predict(WORK, LINK, processes=1, batch=64, pieces=4)
    assert step.total == pytest.approx(0.04 * 64 + 1e-6 * 128**2 + 0.002)
    assert (step.gather, step.statistics, step.gradients, step.agreements) == (0, 0, 0, 0)


def test_predict__closed_form_of_four_processes() -> None:
    step = predict(WORK, LINK, processes=4, batch=64, pieces=8)
    assert step.look + step.learn == pytest.approx(0.04 * 16)
    assert step.loss == pytest.approx(1e-6 * 128**2)  # all of it, in every process
    assert step.gather == pytest.approx(2 * 3e-3 + 64 * 2 * 512 * 3 / 4 / 1e8)
    assert step.statistics == pytest.approx(3e-3 + 8 * 1000 * 3 / 4 / 1e8)
    assert step.gradients == pytest.approx(3e-3 + 2 * 2e-3 + 2 * 8e6 * 3 / 4 / 2e8)
    assert step.agreements == pytest.approx((6 + 4) * 1e-4)


def test_predict__a_process_with_a_micro_batch_more_is_waited_for() -> None:
    step = predict(WORK, FREE, processes=2, batch=60, pieces=3)
    assert step.learn == pytest.approx(0.03 * 40)


def test_predict__a_ring_shares_the_loss_unless_its_blocks_travel_longer() -> None:
    shared = predict(WORK, FREE, processes=4, batch=64, pieces=4, ring=True)
    assert shared.loss == pytest.approx(1e-6 * 128**2 / 4)
    slow = predict(WORK, replace(LINK, gather_rate=1e6), processes=4, batch=64, pieces=4, ring=True)
    assert slow.loss == pytest.approx(3e-3 + 2 * 64 * 2 * 512 * 3 / 4 / 1e6)


def test_predict__gradients_that_travel_meanwhile_cost_what_is_left_of_them() -> None:
    apart = predict(WORK, LINK, processes=4, batch=64, pieces=8)
    together = predict(WORK, LINK, processes=4, batch=64, pieces=8, overlap=True)
    assert together.gradients == max(0.0, apart.gradients - 2 / 3 * 0.03 * 8)
    assert together.agreements == 0


def test_efficiency__is_perfect_without_messages_and_without_what_all_do_alike() -> None:
    alone = replace(WORK, pair=0.0, optimizer=0.0)
    assert efficiency(alone, FREE, processes=8, batch=64, pieces=8) == pytest.approx(1)
    assert efficiency(WORK, LINK, processes=8, batch=64, pieces=8) < 1


def test_counted__resnet50_is_what_torchvision_has() -> None:
    found = counted("resnet50")
    theirs = torchvision.models.resnet50()
    weights = sum(weight.numel() for weight in theirs.parameters()) - sum(
        weight.numel() for weight in theirs.fc.parameters()
    )
    assert weights < found.weights < 1.06 * weights  # and a projector
    assert found.operations == pytest.approx(2 * 4.09e9, rel=0.01)  # GFLOPs of torchvision's table, as multiply-adds
    assert found.row == 128


def test_table__has_a_line_for_each_case_and_no_gain_above_one() -> None:
    models = {name: counted(encoder) for name, encoder in MODELS.items()}
    works = {name: work_on_gpu(name, model) for name, model in models.items()}
    lines = table(works)
    assert len(lines) == 2 + 18
    for line in lines[2:]:
        shares = [float(cell.strip().removesuffix("%")) for cell in line.split("|")[-4:-1]]
        assert 0 < shares[0] <= shares[2] <= 100
    assert len(limits(works)) == 4
    assert len(data(works, decoded=300.0)) == 5
    assert pieces_of(65536, 8) == 512
    assert pieces_of(4096, 512) == 512


@pytest.mark.slow
def test_scaling__runs_through_on_small_sizes(tmp_path: Path, clr_cache: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.scaling", "--size", "8", "--batch-size", "16", "--pieces", "2"]
    done = subprocess.run(
        [*command, "--rounds", "1"],
        cwd=REPOSITORY,
        env=clr_environment(clr_cache),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if line.strip().startswith("step: predicted")]
    assert len(steps) == 2
    assert "| ViT-B/16 | 512 | 65,536 |" in done.stdout

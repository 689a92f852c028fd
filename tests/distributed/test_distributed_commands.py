"""Commands in several real processes: one run, one voice, one exit code, and what happens when one of them goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clr_process import TINY, Clr, clr_command, clr_environment
from torch import Tensor

PIECES = ["--batch-size", "96", "--micro-batch-size", "16", "--set", "train.reduction=ordered"]
SHORT = [*TINY[2:6], *TINY[8:], *PIECES, "--set", "train.evaluations=1", "--set", "dataset.size=8"]
PATIENCE = 500.0  # on a busy machine


def torchrun(processes: int, *arguments: str, restarts: int = 0) -> list[str]:
    """`torchrun ... -m contrastive_cli ARGUMENTS`."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    return [sys.executable, *launcher, "-m", "contrastive_cli", *arguments]


def state_of(run: Path) -> dict[str, Any]:
    """Everything that the last checkpoint goes on from, but the seconds."""
    manifest = json.loads((run / "manifest.json").read_text())
    last = max((entry["step"], key) for key, entry in manifest["artifacts"].items() if entry["kind"] == "checkpoint")[1]
    state: dict[str, Any] = torch.load(run / last, weights_only=True)
    return {key: value for key, value in state.items() if key not in ("seconds", "metrics_bytes", "config")}


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Bit for bit."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            assert_same(value, theirs[key], f"{where}/{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}/{number}")
    elif isinstance(ours, Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


def losses_of(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["train/loss"]) for line in lines]


def wait_for_step(run: Path, step: int) -> None:
    """Until a checkpoint of that step or a later one is there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        steps = [int(file.stem.removeprefix("step-")) for file in run.glob("checkpoints/step-*.pt")]
        if max(steps, default=0) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint of step {step}")


def workers_of(launcher: int) -> dict[int, int]:
    """Process ids of the processes that a launcher has started, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        rank = next((variable[5:] for variable in variables if variable.startswith(b"RANK=")), None)
        if parent == launcher and rank is not None:
            found[int(rank)] = int(folder.name)
    return found


@pytest.fixture(scope="module")
def one_process(clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, 14 steps of 6 pieces."""
    folder = tmp_path_factory.mktemp("one")
    result = clr("pretrain", *SHORT, "--epochs", "1", "--out", "run", cwd=folder)
    assert result.code == 0, result.err
    return folder / "run"


def test_processes__one_run_with_the_bits_and_words_of_one_process(clr: Clr, one_process: Path, tmp_path: Path) -> None:
    result = clr("pretrain", *SHORT, "--epochs", "1", "--out", "run", "--json", "--processes", "2", cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.json["steps"] == 14
    lines = result.err.splitlines()
    assert len(lines) == len(set(lines))
    assert sum(line.startswith("simclr on") for line in lines) == 1
    assert_same(state_of(tmp_path / "run"), state_of(one_process))
    assert losses_of(tmp_path / "run") == losses_of(one_process)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "finished"


def test_processes__an_error_is_said_once_with_its_code(clr: Clr, one_process: Path) -> None:
    result = clr("pretrain", *SHORT, "--out", "run", "--processes", "2", cwd=one_process.parent)
    assert result.code == 5
    assert result.err.count("error: run run exists") == 1
    assert result.err.count("error") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pretrain", "--nonsense"], 2, "error: No such option: --nonsense"),
        (["pretrain", "--set", "method.nonsense=1"], 2, "error: unknown key 'method.nonsense'"),
        (["pretrain", *SHORT, "--micro-batch-size", "60"], 2, "error: a batch of 96 in 2 micro-batches leaves some"),
        (["pretrain", "--dataset", "folder", "--data-dir", "absent"], 3, "error: "),
        (["runs"], 2, "error: `clr runs` runs in one process, and 3 were started"),
        (["pretrain", *SHORT, "--lr", "1e30", "--epochs", "1", "--out", "bad"], 6, "error: the "),
    ],
)
def test_torchrun__what_cannot_succeed_is_said_once_and_not_tried_again(
    arguments: list[str], code: int, message: str, clr_cache: Path, tmp_path: Path
) -> None:
    command = torchrun(3, *arguments, restarts=2)
    finished = subprocess.run(
        command, cwd=tmp_path, env=clr_environment(clr_cache), capture_output=True, text=True, timeout=PATIENCE
    )
    assert finished.returncode != 0
    said = [line for line in finished.stderr.splitlines() if line.startswith("error")]
    assert len(said) == 1
    assert said[0].startswith(message)
    assert f"exitcode  : {code}" in finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_torchrun__a_killed_process_changes_nothing(killed: int, clr: Clr, clr_cache: Path, tmp_path: Path) -> None:
    settings = [*SHORT, "--epochs", "8", "--set", "train.save_every=0.2"]
    whole = clr("pretrain", *settings, "--out", "whole", cwd=tmp_path)
    assert whole.code == 0, whole.err
    command = torchrun(2, "pretrain", *settings, "--out", "cut", restarts=1)
    process = subprocess.Popen(
        command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for_step(tmp_path / "cut", 10)
    os.kill(workers_of(process.pid)[killed], signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert err.count("resuming") == 1
    assert out.splitlines() == [str(tmp_path / "cut")]
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_processes__a_signal_saves_once_and_another_number_goes_on(
    sent: signal.Signals, clr: Clr, clr_cache: Path, tmp_path: Path
) -> None:
    settings = [*SHORT, "--epochs", "8"]
    whole = clr("pretrain", *settings, "--out", "whole", cwd=tmp_path)
    assert whole.code == 0, whole.err
    command = clr_command(["pretrain", *settings, "--out", "cut", "--processes", "2", "--set", "train.save_every=0.2"])
    process = subprocess.Popen(
        command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for_step(tmp_path / "cut", 10)
    process.send_signal(sent)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + sent, err
    assert err.count("stopped at step") == 1
    assert "death signal" not in err
    assert json.loads((tmp_path / "cut" / "manifest.json").read_text())["status"] == "interrupted"
    for processes in ("3", "1"):
        result = clr("pretrain", "--resume", "cut", "--processes", processes, cwd=tmp_path)
        assert result.code == 0, result.err
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")


@pytest.mark.slow
def test_torchrun__one_process_that_cannot_go_on_ends_all_within_seconds(clr_cache: Path, tmp_path: Path) -> None:
    command = torchrun(2, "pretrain", *SHORT, "--epochs", "100", "--set", "train.save_every=0.2", "--out", "run")
    process = subprocess.Popen(
        command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for_step(tmp_path / "run", 5)
    killed = time.monotonic()
    os.kill(workers_of(process.pid)[1], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - killed < 20
    assert process.returncode != 0
    assert err.count("error: process 0 of 2 has lost the others") == 1
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_finetune__two_processes_give_the_bits_of_one(clr: Clr, one_process: Path, tmp_path: Path) -> None:
    settings = ["--run", str(one_process), "--label-fraction", "0.3", "--epochs", "2", "--batch-size", "48"]
    settings += ["--set", "train.micro_batch_size=8", "--set", "train.reduction=ordered", "--json"]
    results = []
    for processes in ("1", "2"):
        result = clr("finetune", *settings, "--out", f"tuned-{processes}", "--processes", processes, cwd=tmp_path)
        assert result.code == 0, result.err
        results.append(result.json["accuracy"])
    assert results[0] == results[1]
    assert_same(state_of(tmp_path / "tuned-2"), state_of(tmp_path / "tuned-1"))


@pytest.mark.slow
def test_embed__two_processes_write_what_one_writes(clr: Clr, one_process: Path, tmp_path: Path) -> None:
    for processes in ("1", "2"):
        out = f"embeddings-{processes}.npz"
        arguments = ["--run", str(one_process), "--split", "train", "--out", out, "--processes", processes]
        result = clr("embed", *arguments, cwd=tmp_path)
        assert result.code == 0, result.err
        assert result.out.startswith(f"{out}: 1438 embeddings")
    one, two = (np.load(tmp_path / f"embeddings-{processes}.npz") for processes in ("1", "2"))
    assert set(one.files) == set(two.files)
    for name in one.files:
        assert np.array_equal(one[name], two[name]), name


@pytest.mark.slow
def test_embed__shards_of_files_that_two_processes_make_and_one_goes_on_with(
    clr: Clr, clr_cache: Path, one_process: Path, tmp_path: Path
) -> None:
    saved = clr("datasets", "digits", "--split", "train", "--save-images", "digits", "--count", "1438", cwd=tmp_path)
    assert saved.code == 0, saved.err
    for broken in sorted((tmp_path / "digits").rglob("*.png"))[3:300:50]:
        broken.write_bytes(b"no picture")
    arguments = ["embed", "digits", "--run", str(one_process), "--max-file", "1KB", "--space", "raw"]
    whole = clr(*arguments, "--out", "whole", cwd=tmp_path)
    assert whole.code == 0, whole.err
    command = clr_command([*arguments, "--out", "cut", "--processes", "2"])
    process = subprocess.Popen(
        command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + PATIENCE
    while not (tmp_path / "cut" / "shard-00001.parquet").exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)  # which writes; the launcher ends the other
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    made = {file.name for file in (tmp_path / "cut").glob("*.parquet")}
    for processes in ("2", "1"):
        result = clr(*arguments, "--out", "cut", "--processes", processes, cwd=tmp_path)
        assert result.code == 0, result.err
        assert "shards are there already" in result.err
        assert result.out.startswith("cut: ")
    assert len(made) < len(list((tmp_path / "whole").glob("*.parquet")))
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "cut" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.slow
def test_processes__a_budget_is_one_clock(clr: Clr, tmp_path: Path) -> None:
    settings = [*SHORT, "--budget", "25", "--processes", "2", "--json"]
    result = clr("pretrain", *settings, "--out", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    again = clr("pretrain", "--config", "run/config.yaml", "--out", "again", cwd=tmp_path)
    assert again.code == 0, again.err
    assert_same(state_of(tmp_path / "run"), state_of(tmp_path / "again"))

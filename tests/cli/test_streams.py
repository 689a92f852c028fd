"""Streams that are full, closed or read by `head`, and signals: the exit code stays true, and nothing is a bug."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clr_process import Clr, clr_command, clr_environment

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@needs_full
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["methods"], 5), (["methods", "--json"], 5), (["--help"], 5), (["knn", "nope.pkl", "--json"], 3)],
)
def test_stdout__full_is_said_on_stderr(arguments: list[str], code: int, clr_cache: Path, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            clr_command(arguments), cwd=tmp_path, env=clr_environment(clr_cache), stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == code
    assert done.stderr.startswith(b"error: cannot write the output" if code == 5 else b"error: nope.pkl")
    assert b"Traceback" not in done.stderr
    assert b"bug" not in done.stderr


@needs_full
def test_stderr__full_changes_no_exit_code(clr_cache: Path, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        command = clr_command(["knn", "nope.pkl"])
        assert subprocess.run(command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=full).returncode == 3


@pytest.mark.parametrize(("arguments", "code"), [(["methods"], 0), (["knn", "nope.pkl"], 3)])
@pytest.mark.parametrize("closed", [1, 2])
def test_streams__closed(arguments: list[str], code: int, closed: int, clr_cache: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        clr_command(arguments),
        cwd=tmp_path,
        env=clr_environment(clr_cache),
        capture_output=True,
        preexec_fn=lambda: os.close(closed),
    )
    assert done.returncode == code
    assert b"bug" not in done.stdout + done.stderr


@pytest.mark.parametrize("rows", [20, 4000], ids=["less than a buffer", "more than a pipe holds"])
def test_knn__read_by_head(rows: int, clr_cache: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(rows, 4)))
    process = subprocess.Popen(
        clr_command(["knn", "x.npy", "-k", "3", "--json"]),
        cwd=tmp_path,
        env=clr_environment(clr_cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141  # 1 would be a bug of ours
    assert (tmp_path / "x-neighbors.pkl").exists()


def test_error__of_a_million_characters_is_a_line_that_can_be_read(clr: Clr, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("dataset: {name: " + "x" * 900_000 + "}")
    for more in ([], ["--json"]):
        result = clr("pretrain", "--config", "x.yaml", *more, cwd=tmp_path)
        assert result.code == 2
        assert "no dataset named 'xxx" in result.err + result.out
        assert "characters left out" in result.err + result.out
        assert len(result.err + result.out) < 5000


def heed_interrupts() -> None:
    """A suite that was started in the background inherits SIGINT as ignored, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [["linear-eval"], ["embed", "--out", "x.pkl"], ["plot", "embeddings"]])
def test_commands__end_at_a_signal(
    arguments: list[str], number: signal.Signals, trained: Path, clr_cache: Path
) -> None:
    before = sorted(trained.rglob("*"))
    process = subprocess.Popen(
        clr_command(arguments),
        cwd=trained,
        env=clr_environment(clr_cache),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    time.sleep(1.0)  # well within the import of torch
    process.send_signal(number)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert time.monotonic() - sent < 10
    assert sorted(trained.rglob("*")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_commands__a_signal_meets_no_code_that_torch_is_initialized_by(
    number: signal.Signals, clr_cache: Path, tmp_path: Path
) -> None:
    """An exception that comes out of Python there is one that its C++ does not expect: it aborts."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(
        "import os, sys, time\n"
        "def called_from_the_initialization():\n"
        "    try:\n"
        "        print('importing', file=sys.stderr, flush=True)\n"
        "        time.sleep(30)\n"
        "    except BaseException:\n"
        "        os.abort()\n"
        "called_from_the_initialization()\n"
    )
    np.save(tmp_path / "x.npy", np.eye(4))
    environment = clr_environment(clr_cache)
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    command = clr_command(["pretrain", "--epochs", "1"])
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == "importing\n"
        process.send_signal(number)
        assert process.wait(timeout=20) == 128 + number


def test_commands__a_name_that_is_too_long_is_no_bug(clr: Clr, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(4))
    for arguments in (["knn", "x.npy", "--out", "n" * 300 + ".pkl"], ["embed", "--run", "n" * 300]):
        result = clr(*arguments, cwd=tmp_path)
        assert result.code in (3, 5)
        assert "File name too long" in result.err


@pytest.mark.parametrize("megabytes", [600, 1200, 1800])
def test_commands__too_little_memory_for_torch_is_no_bug(megabytes: int, clr_cache: Path, tmp_path: Path) -> None:
    limited = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)) << 20,) * 2)\n"
        "runpy.run_module('contrastive_cli', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, str(megabytes), "pretrain", "--epochs", "1"],
        cwd=tmp_path,
        env=clr_environment(clr_cache),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (6, ""), done.stderr
    assert done.stderr.startswith("error: out of memory: ")
    assert len(done.stderr.splitlines()) == 2

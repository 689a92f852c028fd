"""Ctrl-C while a command computes, readers that leave, and names that would speak to the terminal."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from clr_process import Clr, clr_command, clr_environment
from PIL import Image

from contrastive_cli.cli.plain_text import clean

RED = "\x1b[31mred\x1b[0m\x07\x9b2J"


def computing_seconds(process: int) -> float:
    """Seconds that a process has computed so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_knn__ends_at_a_signal_while_it_searches(number: signal.Signals, clr_cache: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((60_000, 256), np.float32))
    process = subprocess.Popen(
        clr_command(["knn", "x.npy"]),
        cwd=tmp_path,
        env=clr_environment(clr_cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while computing_seconds(process.pid) < 3 and process.poll() is None:  # the imports take half a second
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["methods", "--json"], 141), (["--help"], 141), (["knn", "nope.pkl", "--json"], 3)]
)
def test_stdout__a_reader_that_left_before(arguments: list[str], code: int, clr_cache: Path, tmp_path: Path) -> None:
    """What went wrong stays what went wrong."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            clr_command(arguments), cwd=tmp_path, env=clr_environment(clr_cache), stdout=writer, stderr=subprocess.PIPE
        )
    finally:
        os.close(writer)
    assert done.returncode == code
    assert b"bug" not in done.stderr


def test_clean__leaves_text_and_new_lines() -> None:
    assert clean("a\tb\n\u00e9\u6570") == "a\N{REPLACEMENT CHARACTER}b\n\u00e9\u6570"
    for letter in ("\x1b", "\x9b", "\x07", "\r", "\u202e", "\x00", "\x7f"):
        assert letter not in clean(f"a{letter}b")
    clean("\udcff").encode()  # a byte of a name that is no UTF-8


def assert_harmless(text: str) -> None:
    assert not {letter for letter in text if not letter.isprintable()} - {"\n", "\t"}
    assert "red" in text


@pytest.mark.parametrize("more", [[], ["--query", "nope.png"]])
def test_knn__names_do_not_speak_to_the_terminal(more: list[str], clr: Clr, tmp_path: Path) -> None:
    value = {
        "embeddings": np.eye(4, dtype=np.float32),
        "paths": [f"{RED}-{number}" for number in range(4)],
        "labels": np.array([0, 1, 0, 1]),
        "classes": [RED, "b"],
        "model": {"run": RED},
    }
    file = tmp_path / f"{RED}.pkl"
    file.write_bytes(pickle.dumps(value))
    result = clr("knn", file.name, "-k", "2", *more, cwd=tmp_path)
    assert result.code == (0 if not more else 5)
    assert_harmless(result.out + result.err)


def test_embed__names_do_not_speak_to_the_terminal(clr: Clr, trained: Path, tmp_path: Path) -> None:
    photos = tmp_path / RED
    photos.mkdir()
    for number in range(3):
        Image.fromarray(np.full((32, 32), 80 * number, np.uint8)).save(photos / f"{RED}-{number}.png")
    (photos / f"{RED}-broken.png").write_bytes(b"no image")
    embedded = clr("embed", RED, "--run", trained / "runs/small", "--out", f"{RED}.pkl", cwd=tmp_path)
    assert embedded.code == 0, embedded.err
    assert "left out" in embedded.err
    assert_harmless(embedded.out + embedded.err)
    found = clr("knn", f"{RED}.pkl", "-k", "1", cwd=tmp_path)
    assert found.code == 0
    assert_harmless(found.out + found.err)

"""What surrounds a command: homes, encodings, terminals, runs that were moved, several starts at once."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from clr_process import TINY, Clr, clr_command, clr_environment


def run_in(cwd: Path, arguments: list[str], cache: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**clr_environment(cache), **variables}
    return subprocess.run(clr_command(arguments), cwd=cwd, env=environment, capture_output=True, timeout=120)


def on_terminal(cwd: Path, arguments: list[str], cache: Path, **variables: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment: Mapping[str, str] = {**clr_environment(cache), **variables}
    with subprocess.Popen(
        clr_command(arguments), cwd=cwd, env=environment, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL
    ):
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            said += piece
    os.close(ours)
    return said.decode()


def test_paths__of_the_home_directory_are_understood_where_no_shell_does(clr_cache: Path, tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    np.save(home / "v.npy", vectors)
    np.save(work / "~odd.npy", vectors)
    for arguments in (["knn", "~/v.npy", "--out=~/n.npz"], ["knn", "~odd.npy", "--out", "~/odd.npz"]):
        done = run_in(work, arguments, clr_cache, HOME=str(home))
        assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in home.iterdir()) == ["n.npz", "odd.npz", "v.npy"]
    assert [file.name for file in work.iterdir()] == ["~odd.npy"]


def test_names__that_the_output_cannot_encode(clr_cache: Path, tmp_path: Path) -> None:
    paths = [f"\u732b/caf\u00e9-{number}.png" for number in range(4)]
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.savez(tmp_path / "v.npz", embeddings=vectors, paths=np.array(paths))
    for encoding in ("ascii", "latin-1", "cp1252"):
        done = run_in(tmp_path, ["knn", "v.npz"], clr_cache, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert b"\\u732b/caf" in done.stdout
    done = run_in(tmp_path, ["knn", "v.npz"], clr_cache)
    assert paths[0] in done.stdout.decode()


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_progress__a_bar_only_where_it_can_be_drawn(term: str, clr_cache: Path, tmp_path: Path) -> None:
    arguments = ["pretrain", *TINY, "--epochs", "1", "--set", "train.evaluations=2", "--out", "r"]
    said = on_terminal(tmp_path, arguments, clr_cache, TERM=term)
    assert ("step 11/11" in said) == (term == "dumb"), said
    assert ("\x1b[" in said) == (term == "xterm")
    assert "kNN is the part of training images" in said


def test_notes__words_are_whole_on_a_terminal(clr_cache: Path, tmp_path: Path) -> None:
    arguments = ["pretrain", *TINY, "--epochs", "1", "--set", "train.evaluations=1", "--out", "r" * 70]
    said = on_terminal(tmp_path, arguments, clr_cache, TERM="dumb").splitlines()
    first = next(number for number, line in enumerate(said) if line.startswith("kNN is the part"))
    assert said[first : first + 2] == [
        "kNN is the part of training images whose 20 nearest neighbors vote for their", "class"
    ]  # fmt: skip
    assert "-> " + "r" * 70 in " ".join(said)  # a path stays whole, however long


def test_table__fits(trained: Path, clr_cache: Path) -> None:
    piped = run_in(trained, ["runs"], clr_cache).stdout.decode().splitlines()
    header, row = (line.split("\t") for line in piped[1:])
    assert dict(zip(header, row, strict=True))["temperature"] == "1"
    for columns in ("40", "80", "200"):
        done = run_in(trained, ["runs"], clr_cache, COLUMNS=columns, PYTHONIOENCODING="utf-8").stdout.decode()
        assert max(map(len, done.splitlines())) <= int(columns)
        assert "temperature" in done
    colored = on_terminal(trained, ["methods"], clr_cache, NO_COLOR="", TERM="xterm")
    plain = on_terminal(trained, ["methods"], clr_cache, NO_COLOR="1", TERM="xterm")
    assert ("\x1b[1m" in colored, "\x1b" in plain) == (True, False)


def test_cells__stay_on_their_line(clr_cache: Path, tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    np.savez(tmp_path / "v.npz", embeddings=vectors, paths=np.array(["a\nb", "c\td", "e"]))
    lines = run_in(tmp_path, ["knn", "v.npz"], clr_cache).stdout.decode().splitlines()
    assert [len(line.split("\t")) for line in lines[1:-1]] == [4] * 7  # item, rank, neighbor, cosine
    assert lines[2].startswith("a\\nb\t")


def test_table__wide_ones_are_long_in_a_pipe(clr: Clr, trained: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    paths = [f"photos of last summer/at the sea/IMG_{number:04d}.jpg" for number in range(9)]
    np.savez(tmp_path / "v.npz", embeddings=vectors, paths=np.array(paths))
    lines = clr("knn", "v.npz", cwd=tmp_path).out.splitlines()
    assert lines[1] == "item\trank\tneighbor\tcosine similarity"
    assert [line.split("\t")[:2] for line in lines[2:27:5]] == [[path, "1"] for path in paths[:5]]
    methods = clr("methods", cwd=tmp_path).out.splitlines()
    assert "simclr\ttemperature\t0.5" in methods
    shown = clr("datasets", "digits", "--save-images", "all", "--count", "7", cwd=tmp_path)
    files = shown.out.split()
    run = str(trained / "runs/small")
    pairs = clr("similarity", *files, "--run", run, cwd=tmp_path).out.splitlines()
    assert [line.split("\t")[:2] for line in pairs[2:4]] == [[files[0], files[1]], [files[0], files[2]]]
    assert len(pairs) == 2 + 7 * 6 // 2
    few = clr("similarity", *files[:3], "--run", run, cwd=tmp_path).out.splitlines()
    assert [len(line.split("\t")) for line in few[1:]] == [4] * 4  # a matrix
    for number in range(6):
        other = shutil.copytree(run, tmp_path / "runs" / f"with a long name {number}")
        config = other / "config.yaml"
        config.write_text(config.read_text().replace("temperature: 1.0", f"temperature: 0.{number + 1}"))
    names = [str(path) for path in sorted((tmp_path / "runs").iterdir())]
    compared = clr("runs", "compare", *names, cwd=tmp_path).out.splitlines()
    assert "method.temperature\twith a long name 3\t0.4" in compared
    assert max(map(len, [*lines, *methods, *pairs, *few, *compared])) < 160


def test_runs__that_moved_carry_their_yardstick(clr: Clr, trained: Path, clr_cache: Path, tmp_path: Path) -> None:
    shown = clr("datasets", "digits", "--save-images", tmp_path / "digits", "--count", "2", cwd=tmp_path)
    pair = [tmp_path / path for path in shown.out.split()]
    shutil.copytree(trained / "runs/small", tmp_path / "moved")
    shutil.move(tmp_path / "moved", tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere/eval").glob("pair-similarities-h*.json"))
    found = clr("similarity", *pair, "--run", tmp_path / "elsewhere", cwd=tmp_path)
    assert "of random pairs of training images" in found.out


def test_similarity__says_why_it_has_no_percentiles(clr: Clr, tmp_path: Path) -> None:
    shown = clr("datasets", "digits", "--save-images", tmp_path / "all", "--count", "40", cwd=tmp_path)
    files = [tmp_path / path for path in shown.out.split()]
    for number, file in enumerate(files):
        target = tmp_path / "photos" / f"c{number % 2}" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    small = [*TINY, "--dataset", "folder", "--data-dir", "photos", "--epochs", "1", "--set", "dataset.size=32"]
    assert clr("pretrain", *small, "--batch-size", "8", "--out", "runs/r", cwd=tmp_path).code == 0
    for kept in (tmp_path / "runs/r/eval").glob("pair-similarities-*"):
        kept.unlink()
    (tmp_path / "photos").rename(tmp_path / "away")
    alone = clr("similarity", files[0], files[1], cwd=tmp_path)
    assert alone.code == 0, alone.err
    assert "higher than" not in alone.out
    assert str(tmp_path / "photos") in alone.err
    assert "--data-dir" in alone.err
    again = clr("similarity", files[0], files[1], "--data-dir", "away", cwd=tmp_path)
    assert "higher than" in again.out
    assert again.err.startswith("using runs/r (simclr, ")


def test_knn_query__finds_the_run_that_the_file_lies_in(clr: Clr, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "small"
    shutil.copytree(trained / "runs/small", run)
    shown = clr("datasets", "digits", "--save-images", tmp_path / "digits", "--count", "3", cwd=tmp_path)
    images = [tmp_path / path for path in shown.out.split()]
    assert clr("embed", *images, "--run", run, "--out", run / "e.pkl", cwd=tmp_path).code == 0
    other = tmp_path / "other"
    other.mkdir()
    assert clr("knn", run / "e.pkl", "--query", images[0], cwd=other).code == 0
    shutil.copy(run / "e.pkl", other)
    lost = clr("knn", "e.pkl", "--query", images[0], cwd=other)
    assert lost.code == 5
    assert "e.pkl was made by run small" in lost.err
    assert str(other / "runs" / "small") in lost.err
    assert "give its directory by --run" in lost.err
    checkpoint = next((run / "checkpoints").iterdir())
    assert clr("knn", "e.pkl", "--query", images[0], "--run", checkpoint, cwd=other).code == 0


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["pretrain", "--pretrained"], "--weights NAME"),
        (["pretrain", "--epoch", "3"], "--epochs"),
        (["linear-eval", "--pretrained"], "--weights NAME"),
        (["exports"], "clr export"),
        (["plto"], "clr plot"),
        (["pretrain", "--zzzzzz"], None),
    ],
)
def test_usage__what_is_meant_is_told_by_sense(
    arguments: list[str], meant: str | None, clr: Clr, tmp_path: Path
) -> None:
    done = clr(*arguments, cwd=tmp_path)
    assert done.code == 2
    assert ("did you mean" in done.err) == (meant is not None)
    assert meant is None or f"did you mean `{meant}`" in done.err
    assert "Possible" not in done.err


def test_manifest__names_every_file_of_the_run(clr: Clr, trained: Path) -> None:
    assert clr("plot", "embeddings", "--projection", "pca", "--limit", "20", cwd=trained).code == 0
    run = trained / "runs" / "small"
    entries = json.loads((run / "manifest.json").read_bytes())["artifacts"]
    files = {file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file()}
    assert files - set(entries) == {"manifest.json", "run.lock"}


def test_plot_neighbors__of_pictures_that_moved(clr: Clr, trained: Path, tmp_path: Path) -> None:
    clr("datasets", "digits", "--save-images", "photos/all", "--count", "6", cwd=tmp_path)
    run = trained / "runs/small"
    assert clr("embed", "photos", "--run", run, "--out", "e.pkl", cwd=tmp_path).code == 0
    assert clr("knn", "e.pkl", "-k", "2", cwd=tmp_path).code == 0
    (tmp_path / "photos" / "all").rename(tmp_path / "away")
    lost = clr("plot", "neighbors", "e-neighbors.pkl", cwd=tmp_path)
    assert (lost.code, str(tmp_path / "photos" / "all") in lost.err, "--data-dir" in lost.err) == (3, True, True)
    assert clr("plot", "neighbors", "e-neighbors.pkl", "--data-dir", "away", cwd=tmp_path).code == 0

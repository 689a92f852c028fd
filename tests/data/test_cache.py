from __future__ import annotations

import csv
import json
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastive_cli.core.errors import DataError, RunError
from contrastive_cli.data.cache import ImageSet, cache_directory
from contrastive_cli.data.datasets import open_dataset

ROOT = Path(__file__).parents[2]


def write_images(root: Path, *, num_images: int = 6, side: int = 8, classes: int = 2) -> None:
    generator = np.random.default_rng(0)
    for number in range(num_images):
        path = root / f"class{number % classes}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, size=(side, side, 3), dtype=np.uint8)).save(path)


def open_all(root: Path, *, size: int = 8, max_bad: float = 0.01, calls: list[int] | None = None) -> ImageSet:
    def note(done: int, _total: int) -> None:
        if calls is not None:
            calls.append(done)

    return open_dataset("folder", split="all", data_dir=root, size=size, max_bad=max_bad, progress=note)


def entry_of(cache: Path) -> Path:
    (entry,) = [folder for folder in cache.iterdir() if folder.is_dir()]
    return entry


def same(first: ImageSet, second: ImageSet) -> bool:
    return (
        np.array_equal(first.images, second.images)
        and np.array_equal(first.labels, second.labels)
        and (first.paths, first.classes, first.fingerprint) == (second.paths, second.classes, second.fingerprint)
    )


def test_open_cached__content_and_statistics(tmp_path: Path) -> None:
    write_images(tmp_path, num_images=7)
    images = open_all(tmp_path)
    expected = np.stack([np.asarray(Image.open(tmp_path / path)).transpose(2, 0, 1) for path in images.paths])
    np.testing.assert_array_equal(images.images, expected)
    assert isinstance(images.images, np.memmap)
    assert images.paths[:2] == ("class0/0000.png", "class0/0002.png")
    assert images.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert (images.num_samples, images.channels, images.size, images.has_labels) == (7, 3, 8, True)
    np.testing.assert_allclose(images.mean, expected.mean(axis=(0, 2, 3)) / 255, rtol=1e-12)
    np.testing.assert_allclose(images.std, expected.std(axis=(0, 2, 3)) / 255, rtol=1e-9)


def test_open_cached__is_read_only(tmp_path: Path) -> None:
    write_images(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        open_all(tmp_path).images[0] = 0


def test_open_cached__second_time_decodes_nothing(tmp_path: Path) -> None:
    write_images(tmp_path)
    calls: list[int] = []
    first = open_all(tmp_path, calls=calls)
    assert calls[-1] == 6
    calls.clear()
    assert same(first, open_all(tmp_path, calls=calls))
    assert calls == []


@pytest.mark.parametrize("change", ["touch", "add", "remove", "rename", "size"])
def test_open_cached__changed_source_is_decoded_again(tmp_path: Path, change: str) -> None:
    write_images(tmp_path)
    open_all(tmp_path)
    file = tmp_path / "class0" / "0000.png"
    if change == "touch":
        os.utime(file, ns=(1, 1))
    elif change == "add":
        shutil.copy(file, tmp_path / "class1" / "new.png")
    elif change == "remove":
        file.unlink()
    elif change == "rename":
        file.rename(file.with_name("other.png"))
    calls: list[int] = []
    open_all(tmp_path, size=4 if change == "size" else 8, calls=calls)
    assert calls


def test_open_cached__fingerprint_is_of_content_not_of_place_or_time(tmp_path: Path) -> None:
    write_images(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first, second = open_all(tmp_path / "a"), open_all(tmp_path / "b")
    assert same(first, second)
    (tmp_path / "b" / "class0" / "0000.png").rename(tmp_path / "b" / "class1" / "0000.png")
    assert open_all(tmp_path / "b").fingerprint != first.fingerprint


@pytest.mark.parametrize("name", ["images.u8", "labels.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "remove"])
def test_open_cached__damaged_entry_is_rebuilt(tmp_path: Path, cache: Path, name: str, damage: str) -> None:
    write_images(tmp_path)
    first = open_all(tmp_path)
    expected = np.array(first.images)
    del first
    file = entry_of(cache) / name
    if damage == "remove":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size - 1 if damage == "cut" else 0)
    calls: list[int] = []
    np.testing.assert_array_equal(open_all(tmp_path, calls=calls).images, expected)
    assert calls


def test_open_cached__bad_files_are_skipped_and_recorded(tmp_path: Path, cache: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "class0" / "0002.png").write_bytes(b"text")
    (tmp_path / "class1" / "=1+1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 7 files cannot be used.*class0/0002\.png.*not an image") as caught:
        open_all(tmp_path, max_bad=0.0)
    assert caught.value.path is not None
    with Path(caught.value.path).open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["path", "class0/0002.png", "class1/=1+1.png"]
    images = open_all(tmp_path)  # so few are forgiven
    assert images.paths == (
        "class0/0000.png",
        "class0/0004.png",
        "class1/0001.png",
        "class1/0003.png",
        "class1/0005.png",
    )
    assert images.labels.tolist() == [0, 0, 1, 1, 1]
    assert [(bad.path, bad.reason) for bad in images.bad_files][1] == ("class1/=1+1.png", "the file is empty")


def test_open_cached__one_bad_file_is_forgiven_unless_none_may_be(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "class0" / "0000.png").write_bytes(b"")
    assert open_all(tmp_path).num_samples == 5
    with pytest.raises(DataError, match="1 of 6"):
        open_all(tmp_path, max_bad=0.0)


def test_open_cached__all_bad(tmp_path: Path, cache: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"text")
    with pytest.raises(DataError, match=r"none of the 2 files .*'a\.png' \(not an image"):
        open_all(tmp_path, max_bad=1.0)
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_open_cached__vanished_file_is_bad(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "class0" / "zz.png").symlink_to(tmp_path / "gone.png")
    assert open_all(tmp_path).num_samples == 6


def test_open_cached__weird_names_survive(tmp_path: Path) -> None:
    write_images(tmp_path)
    source = tmp_path / "class0" / "0000.png"
    name = os.fsdecode(b"\xff\n[red]<b>.png")
    shutil.copy(source, tmp_path / "class0" / name)
    open_all(tmp_path)
    assert f"class0/{name}" in open_all(tmp_path).paths


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that nobody can write")
def test_open_cached__read_only_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path)
    monkeypatch.setenv("CLR_CACHE", "/proc/clr")
    with pytest.raises(RunError, match="cannot write") as caught:
        open_all(tmp_path)
    assert caught.value.hint is not None
    assert "CLR_CACHE" in caught.value.hint


def test_open_cached__full_disk_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    write_images(tmp_path, num_images=40, side=16)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(RunError, match="no space left"):
            open_all(tmp_path, size=16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []
    assert open_all(tmp_path, size=16).num_samples == 40


BUILD = """
import json, sys, time
from pathlib import Path
from contrastive_cli.data.datasets import open_dataset
calls = []
def note(done, total):
    calls.append(done)
    if sys.argv[2] == "stall":
        print("stalled", flush=True)
        time.sleep(60)
    time.sleep(0.05)
images = open_dataset("folder", split="all", data_dir=Path(sys.argv[1]), size=8, progress=note)
print(json.dumps([images.fingerprint, len(calls), images.num_samples]))
"""


def start_build(root: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(root), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_open_cached__two_processes_build_once(tmp_path: Path) -> None:
    write_images(tmp_path, num_images=200)
    processes = [start_build(tmp_path, "run") for _ in range(2)]
    answers = []
    for process in processes:
        output, _ = process.communicate(timeout=60)
        answers.append(json.loads(output))
    assert answers[0][0] == answers[1][0]
    assert answers[0][2] == answers[1][2] == 200
    assert sorted(answer[1] > 0 for answer in answers) == [False, True]


def test_open_cached__killed_half_way_then_rebuilt(tmp_path: Path, cache: Path) -> None:
    write_images(tmp_path, num_images=200)
    process = start_build(tmp_path, "stall")
    assert process.stdout is not None
    assert process.stdout.readline() == "stalled\n"
    process.kill()
    process.communicate()
    leftovers = [path for path in cache.iterdir() if path.name.endswith(".tmp-clr")]
    assert len(leftovers) == 1
    images = open_all(tmp_path)
    assert not leftovers[0].exists()
    expected = np.stack([np.asarray(Image.open(tmp_path / path)).transpose(2, 0, 1) for path in images.paths])
    np.testing.assert_array_equal(images.images, expected)


def test_cache_directory__follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() != tmp_path
    monkeypatch.delenv("CLR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "clr"
    for relative_or_empty in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", relative_or_empty)
        assert cache_directory() == tmp_path / ".cache" / "clr"


def test_cache_directory__without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "CLR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # a user whom the system does not know
    with pytest.raises(RunError, match="no home directory") as caught:
        cache_directory()
    assert "CLR_CACHE" in str(caught.value.hint)

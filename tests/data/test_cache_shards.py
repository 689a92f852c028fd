"""A split decoded in shards: the same as in one, by several processes at once, and after kills anywhere."""

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
from clr_process import REPOSITORY

from contrastive_cli.data import cache_shards
from contrastive_cli.data.cache import ImageSet, cache_directory, open_cached
from contrastive_cli.data.cache_entries import list_entries, remove_entry, unfinished_folder
from contrastive_cli.data.images import BadImage, Images
from contrastive_cli.data.sources import Samples, Source

COUNT, SIZE = 100, 4
ROW = 3 * SIZE**2
BAD = (7, 33, 34)


def source(reads: list[int], *, count: int = COUNT, bad: tuple[int, ...] = BAD) -> Source:
    """Drawn pictures; which were read is noted."""

    def read(index: int) -> Images:
        reads.append(index)
        if index in bad:
            raise BadImage(Path(f"{index}.png"), "is bad")
        return np.random.default_rng(index).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)

    def load() -> Samples:
        labels = np.arange(count, dtype=np.int64) % 3
        return Samples(labels=labels, classes=("a", "b", "c"), paths=tuple(f"{i}.png" for i in range(count)), read=read)

    return Source(name="drawn", split="all", size=SIZE, channels=3, identity=(f"{count}",), load=load)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(reads: list[int], **changes: Any) -> ImageSet:
    return open_cached(source(reads, **changes), max_bad=0.1)


def assert_same(found: ImageSet, expected: ImageSet) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)
    for name in ("fingerprint", "mean", "std", "paths", "bad_files", "classes"):
        assert getattr(found, name) == getattr(expected, name), name


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """Decoded as one shard, into a cache of its own."""
    with monkeypatch.context() as patch:
        patch.setenv("CLR_CACHE", str(tmp_path / "whole"))
        return opened([])


@pytest.mark.parametrize("rows", [1, 7, 33, 99, 100])
def test_open_cached__any_number_of_shards_gives_the_same(
    rows: int, whole: ImageSet, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_shards, "SHARD_BYTES", rows * ROW)
    reads: list[int] = []
    assert_same(opened(reads), whole)
    assert sorted(reads) == list(range(COUNT))
    (entry,) = [path for path in cache.iterdir() if path.is_dir()]
    assert {file.name for file in entry.iterdir()} == {"images.u8", "labels.npy", "meta.json", "bad_files.csv"}
    assert [path.name for path in cache.iterdir() if path != entry] == [f"{entry.name}.lock"]


SCRIPT = """
import json, os, sys, time
sys.path[:0] = [{tests!r}, {here!r}]
from contrastive_cli.data import cache_shards
from test_cache_shards import ROW, opened
cache_shards.SHARD_BYTES = 10 * ROW
class Reads(list):
    def append(self, index):
        super().append(index)
        time.sleep({pause})
        if index == {stop}:
            print("stopped", flush=True)
            time.sleep(600)
reads = Reads()
found = opened(reads)
print(json.dumps([found.fingerprint, sorted(reads)]))
"""


def process(*, pause: float = 0.0, stop: int = -1) -> subprocess.Popen[str]:
    tests = REPOSITORY / "tests"
    script = SCRIPT.format(tests=str(tests), here=str(tests / "data"), pause=pause, stop=stop)
    return subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_open_cached__processes_share_the_shards(whole: ImageSet, cache: Path) -> None:
    started = [process(pause=0.02) for _ in range(3)]
    answers = [json.loads(each.communicate(timeout=120)[0]) for each in started]
    assert {fingerprint for fingerprint, _ in answers} == {whole.fingerprint}
    reads = [index for _, those in answers for index in those]
    assert sorted(reads) == list(range(COUNT))
    assert sum(bool(those) for _, those in answers) > 1


def test_open_cached__a_killed_process_costs_the_shard_in_work(
    whole: ImageSet, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = process(stop=57)
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "stopped\n"
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    (unfinished,) = list_entries(cache)
    assert unfinished.images is None
    monkeypatch.setattr(cache_shards, "SHARD_BYTES", 10 * ROW)
    said: list[str] = []
    reads: list[int] = []
    found = open_cached(source(reads), max_bad=0.1, say=said.append)
    assert_same(found, whole)
    assert sorted(reads) == list(range(50, COUNT))
    assert "50 of them are there already" in said[0]


def test_open_cached__who_waits_takes_over_from_a_killed_process(whole: ImageSet, cache: Path) -> None:
    stopped = process(stop=97)
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "stopped\n"
    other = process()
    time.sleep(1.0)
    assert other.poll() is None
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    fingerprint, reads = json.loads(other.communicate(timeout=120)[0])
    assert fingerprint == whole.fingerprint
    assert reads == list(range(90, COUNT))


@pytest.fixture
def begun(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of shards of ten, all there and not yet put together."""
    monkeypatch.setattr(cache_shards, "SHARD_BYTES", 10 * ROW)

    def stop(shards: cache_shards.Shards) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("contrastive_cli.data.cache.join_shards", stop)
        with pytest.raises(KeyboardInterrupt):
            opened([])
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    assert len(list(folder.glob("*.u8"))) == 10
    return folder


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "absent", "no facts", "foreign facts", "other range"])
def test_open_cached__a_damaged_shard_is_decoded_again_and_no_other(damage: str, begun: Path, whole: ImageSet) -> None:
    pixels, facts = begun / "00004.u8", begun / "00004.json"
    if damage == "flipped":
        content = bytearray(pixels.read_bytes())
        content[5] ^= 1
        pixels.write_bytes(content)
    elif damage == "cut":
        os.truncate(pixels, 10)
    elif damage == "longer":
        pixels.write_bytes(pixels.read_bytes() + b"x")
    elif damage == "absent":
        pixels.unlink()
    elif damage == "no facts":
        facts.write_bytes(facts.read_bytes()[:-9])
    elif damage == "foreign facts":
        facts.write_text("[1, 2]")
    else:
        facts.write_text(facts.read_text().replace("[40, 50]", "[40, 49]"))
    reads: list[int] = []
    assert_same(opened(reads), whole)
    assert sorted(reads) == list(range(40, 50))


def test_open_cached__all_shards_damaged_are_all_decoded_again(begun: Path, whole: ImageSet) -> None:
    for file in begun.glob("*.u8"):
        file.unlink()
    reads: list[int] = []
    assert_same(opened(reads), whole)
    assert sorted(reads) == list(range(COUNT))


KILLED = """
import os, sys, shutil
sys.path[:0] = [{tests!r}, {here!r}]
from pathlib import Path
from contrastive_cli.data import cache_shards
from test_cache_shards import ROW, opened
cache_shards.SHARD_BYTES = 25 * ROW
cache = Path(os.environ["CLR_CACHE"])
kill = lambda: os._exit(9)

def child(at):
    left = at
    def counted(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return function(*arguments, **options)
        return call
    os.fsync, os.unlink, os.rename = counted(os.fsync), counted(os.unlink), counted(os.rename)
    Path.replace, Path.unlink, Path.rename = counted(Path.replace), counted(Path.unlink), counted(Path.rename)
    opened([])
    os._exit(0)

at = 0
while True:
    shutil.rmtree(cache, ignore_errors=True)
    process = os.fork()
    if process == 0:
        child(at)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    reads = []
    found = opened(reads)
    there = sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))
    files = sorted(file.name for file in (cache / there[0]).iterdir())
    files = [name for name in files if not name[0].isdigit() and name != "joined.json"]
    print(at, code, found.fingerprint, len(reads), len(there), ",".join(files))
    if code == 0:
        break
    at += 1
"""


@pytest.mark.slow
def test_open_cached__killed_at_every_write_and_rename(whole: ImageSet, cache: Path) -> None:
    tests = REPOSITORY / "tests"
    script = KILLED.format(tests=str(tests), here=str(tests / "data"))
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) > 30
    decoded = [int(line[3]) for line in lines]
    for number, code, fingerprint, _, folders, files in lines:
        assert fingerprint == whole.fingerprint, number
        assert code == ("0" if number == str(len(lines) - 1) else "9")
        assert folders == "1"
        assert files == "bad_files.csv,images.u8,labels.npy,meta.json"
    assert decoded[0] == COUNT
    assert decoded[-1] == 0
    assert decoded == sorted(decoded, reverse=True), "a later kill never costs more"
    assert set(decoded) == {100, 75, 50, 25, 0}


def test_remove_entry__what_was_left_unfinished_goes_and_what_is_in_work_stays(cache: Path) -> None:
    stopped = process(stop=57)
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "stopped\n"
    (unfinished,) = list_entries(cache)
    with pytest.raises(Exception, match="is being decoded right now"):
        remove_entry(unfinished)
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    remove_entry(unfinished)
    assert list_entries(cache) == []
    assert not unfinished.path.exists()


def test_open_cached__the_limit_of_the_cache_does_not_take_what_is_begun(
    begun: Path, whole: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLR_CACHE_LIMIT", f"{COUNT * ROW / 1000}K")
    reads: list[int] = []
    assert_same(opened(reads), whole)
    assert reads == []
    assert begun == unfinished_folder(cache_directory() / begun.name.removeprefix(".").removesuffix(".shards.tmp-clr"))

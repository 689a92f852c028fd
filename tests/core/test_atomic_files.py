from __future__ import annotations

import hashlib
import json
import pwd
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.files import (
    TEMPORARY_SUFFIX,
    at_home,
    sha256_of,
    sweep_temporaries,
    write_atomically,
    write_json,
)

WRITER = """
import sys
from pathlib import Path
from contrastive_cli.core.files import write_atomically
path, size = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
while True:
    for letter in b"ab":
        write_atomically(path, bytes([letter]) * size)
"""

SMALL_DISK = """
import resource, sys
from pathlib import Path
from contrastive_cli.core.errors import RunError
from contrastive_cli.core.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomically(Path(sys.argv[1]), b"n" * 100_000)
except RunError as error:
    print(error.exit_code, error.message, "|", error.hint)
"""


def test_write_atomically__content_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    for content in (b"old", b"", b"new" * 1000):
        digest = write_atomically(path, content)
        assert path.read_bytes() == content
        assert digest == hashlib.sha256(content).hexdigest() == sha256_of(path)
    assert list(path.parent.iterdir()) == [path]


def test_write_atomically__killed_at_any_instant_leaves_a_whole_file(tmp_path: Path) -> None:
    path, size = tmp_path / "state.bin", 2_000_000
    draws, whole = random.Random(0), (b"a" * size, b"b" * size)
    for _ in range(12):
        command = [sys.executable, "-c", WRITER, str(path), str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            end = time.monotonic() + draws.uniform(0.005, 0.1)
            try:
                while time.monotonic() < end:  # a reader beside the writer sees whole files too
                    assert not path.exists() or path.read_bytes() in whole
            finally:
                writer.kill()
        assert not path.exists() or path.read_bytes() in whole
    assert path.exists()
    sweep_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically__full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    result = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(path)], capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stdout.startswith(f"5 no space left to write {path} (0.1 MB needed) | ")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically__parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot write") as caught:
        write_atomically(tmp_path / "file" / "below", b"x")
    assert caught.value.hint is not None


def test_write_atomically__target_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        write_atomically(tmp_path / "folder", b"x")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


@pytest.mark.parametrize("name", ["a" * 255, "\u6570" * 85, "\U0001f5bc" * 63])
def test_write_atomically__longest_names(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, b"x")  # 255 bytes are the limit of most file systems
    assert (tmp_path / name).read_bytes() == b"x"


def test_write_json__round_trip(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "name": "\u00e9\u6570", "broken": b"\xff".decode("utf-8", "surrogateescape")}
    digest = write_json(tmp_path / "value.json", value)
    assert json.loads((tmp_path / "value.json").read_bytes()) == value
    assert digest == sha256_of(tmp_path / "value.json")


def test_sweep_temporaries__takes_only_leftovers(tmp_path: Path) -> None:
    below = tmp_path / "checkpoints"
    below.mkdir()
    leftovers = [tmp_path / f".config.yaml.0123{TEMPORARY_SUFFIX}", below / f".step-1.pt.4567{TEMPORARY_SUFFIX}"]
    kept = [tmp_path / "config.yaml", below / "step-1.pt", tmp_path / f"mine{TEMPORARY_SUFFIX}", tmp_path / ".hidden"]
    for file in leftovers + kept:
        file.write_text("x")
    sweep_temporaries(tmp_path)
    assert not any(file.exists() for file in leftovers)
    assert all(file.exists() for file in kept)


def test_sweep_temporaries__leaves_what_another_process_is_writing(tmp_path: Path) -> None:
    slow = (
        "import os, time; fsync = os.fsync; os.fsync = lambda file: (print(flush=True), time.sleep(30), fsync(file))\n"
    )
    command = [sys.executable, "-c", slow + WRITER, str(tmp_path / "state.bin"), "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert (writer.stdout.readline(), writer.stdout.readline()) == (b"ready\n", b"\n")
        sweep_temporaries(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        writer.kill()
    sweep_temporaries(tmp_path)
    assert not list(tmp_path.iterdir())


def test_write_atomically__a_killed_writer_is_told_by_its_signal(tmp_path: Path) -> None:
    """The kill test above would prove nothing if the writer had died of something else."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "f"), "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
        assert writer.wait(timeout=10) == -signal.SIGKILL


def test_at_home__only_homes_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home(Path("~/a/b")) == tmp_path / "a" / "b"
    assert at_home(Path("~")) == tmp_path
    for path in ("a/~", "./x", "~nobody-of-this-name.npy", "/~/x"):
        assert at_home(Path(path)) == Path(path)


def test_at_home__without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # a user whom the system does not know
    with pytest.raises(UsageError, match="no home directory for '~/x'"):
        at_home(Path("~/x"))

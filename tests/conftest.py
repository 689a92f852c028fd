"""What the tests of commands share: a process for `clr`, and one trained run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clr_process import TINY, Clr, clr_of, clr_server

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two test processes share the cores


@pytest.fixture(scope="session")
def clr_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded images for all commands."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def never_the_own_cache(clr_cache: Path) -> Iterator[None]:
    """What lies in the cache of whoever runs the tests is neither read nor added to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLR_CACHE", str(clr_cache))
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Whatever a test does to the threads of torch ends with it: two processes with two threads each wait for cores."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Fail after ten seconds instead of waiting for ever, as for the writer of a FIFO."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"signal {number}: ten seconds have passed")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def clr_address(clr_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the process listens that runs the commands."""
    with clr_server(tmp_path_factory.mktemp("server"), cache=clr_cache) as address:
        yield address


@pytest.fixture(scope="session")
def clr(clr_address: Path, clr_cache: Path) -> Clr:
    """Run `clr` with arguments in a directory and return what it said."""
    return clr_of(clr_address, cache=clr_cache)


@pytest.fixture(scope="session")
def trained(clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `clr pretrain` has trained a small encoder on the digits for a few epochs."""
    folder = tmp_path_factory.mktemp("trained")
    result = clr("pretrain", *TINY, "--epochs", "6", "--out", "runs/small", cwd=folder)
    assert result.code == 0, result.err
    return folder

"""The little table that all processes of a command share through its launcher, and that outlives a restart of them.

torchrun keeps a `TCPStore` as long as it runs. What an earlier attempt has left there says that a run was begun, so
that the next one goes on with it, or that the command cannot be followed, so that the next one ends at once. How often
a process was restarted is of no use for that: every agent counts for itself.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch.distributed

from contrastive_cli.core.launched import Place, place

dist: Any = torch.distributed  # which exports its stores without types
Store: TypeAlias = Any
PATIENCE = datetime.timedelta(seconds=300)
SHORT = datetime.timedelta(seconds=5)
BETWEEN_LOOKS = 0.05
WAIT_FOR_THE_REASON = 3.0  # seconds: who fails says so before it goes
_hosted: Store | None = None
_attempt = "start"


def fresh_store(found: Place) -> Store:
    """A store that the processes of this attempt alone know, though the launcher's holds what earlier ones left.

    The first process names it. Every other one asks by a number of its own, so that an answer to an earlier attempt is
    none to this one.
    """
    global _hosted, _attempt
    shared = _connect(PATIENCE, hosts=found.rank == 0)
    if not _launcher_has_store():
        _hosted = shared
    own = secrets.token_hex(8)
    if found.rank == 0:
        missing = set(range(1, found.size))
        end = time.monotonic() + PATIENCE.total_seconds()
        while missing:
            if time.monotonic() > end:
                raise RuntimeError(f"timed out: processes {sorted(missing)[:8]} did not come")
            for other in sorted(missing):
                if shared.check([f"ask/{other}"]):
                    shared.set(f"answer/{shared.get(f'ask/{other}').decode()}", own)
                if shared.check([f"here/{own}/{other}"]):
                    missing.discard(other)
            time.sleep(BETWEEN_LOOKS)
        _attempt = own
        return dist.PrefixStore(f"attempt/{own}", shared)
    shared.set(f"ask/{found.rank}", own)
    name = shared.get(f"answer/{own}").decode()
    shared.set(f"here/{name}/{found.rank}", "1")
    _attempt = name
    return dist.PrefixStore(f"attempt/{name}", shared)


def remember(key: str, value: str) -> None:
    """Leave a fact to this attempt and those after it; nothing where there is no launcher."""
    with _reachable() as store:
        if store is not None:
            store.set(f"fact/{key}", value)


def recall(key: str) -> str | None:
    """The fact that this attempt or one before it has left."""
    found: str | None = None
    with _reachable() as store:
        if store is not None and store.check([f"fact/{key}"]):
            found = store.get(f"fact/{key}").decode()
    return found


def speaks_last(code: int, *, for_good: bool) -> bool:
    """Whether this process is the one of all that says why they end, by the exit code `code`.

    Args:
        code: Those that lose it meanwhile end by it too.
        for_good: No other attempt could do better, so that those that a launcher starts end without a word.
    """
    first = True
    with _reachable() as store:
        if store is not None:
            first = store.add("claim/refused" if for_good else f"claim/{_attempt}", 1) == 1
        if store is not None and first:
            store.set(f"fact/end/{_attempt}", str(code))
            if for_good:
                store.set("fact/refused", str(code))
    return first


def end_of_others(*, patience: float = WAIT_FOR_THE_REASON) -> int | None:
    """The exit code of the process that has ended this attempt and said why; None if nobody did."""
    end = time.monotonic() + patience
    while (code := recall(f"end/{_attempt}")) is None and time.monotonic() < end:
        time.sleep(BETWEEN_LOOKS)
    return None if code is None else int(code)


def refused() -> int | None:
    """The exit code of an earlier attempt that nothing could have made succeed."""
    code = recall("refused")
    return None if code is None else int(code)


@contextlib.contextmanager
def _reachable() -> Iterator[Store | None]:
    store = None
    with contextlib.suppress(RuntimeError, OSError, ValueError):
        store = _hosted or (_connect(SHORT, hosts=False) if place().size > 1 else None)
    with contextlib.suppress(RuntimeError):  # it may go with the process that keeps it
        yield store


def _launcher_has_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def _connect(patience: datetime.timedelta, *, hosts: bool) -> Store:
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=hosts and not _launcher_has_store(),
        timeout=patience,
        wait_for_workers=False,
    )
    return dist.PrefixStore(f"clr/{os.environ.get('TORCHELASTIC_RUN_ID', '')}", store)

"""What a writer asks of the file system, in its order: a file must be safe before anything names it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Event = tuple[str, str]


def record_writes(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """The list that every sync, rename and removal from now on is entered in, by the name of what it is done to.

    Temporary files go by the name of what they become; a folder that is synced goes by its name and a slash.
    """
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("an open file is named by /proc")
    events: list[Event] = []

    def synced(sync: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            slash = "/" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else ""
            events.append(("sync", _plain(path) + slash))
            sync(descriptor)

        return call

    def moved(move: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, target: Any, **options: Any) -> None:
            move(source, target, **options)
            events.append(("rename", _plain(Path(target))))

        return call

    def removed(remove: Callable[..., None]) -> Callable[..., None]:
        def call(path: Any, **options: Any) -> None:
            remove(path, **options)
            events.append(("remove", _plain(Path(path))))

        return call

    monkeypatch.setattr(os, "fsync", synced(os.fsync))
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, moved(getattr(os, name)))
    for name in ("unlink", "remove"):
        monkeypatch.setattr(os, name, removed(getattr(os, name)))
    return events


def _plain(path: Path) -> str:
    match = re.fullmatch(r"\.(.+?)\.\d+(\.[0-9a-f]{8})?\.tmp-clr", path.name)
    return match[1] if match else path.name

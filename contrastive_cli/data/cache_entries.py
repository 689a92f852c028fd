"""What lies in the cache of decoded images: listed, removed, and kept below a limit.

An entry is a folder of three files that `data.cache` wrote. What is not such a folder is never touched, and no link is
followed. Images that a process works with stay readable to it: on Linux and macOS a removed file lives until it is
closed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from contrastive_cli.core.errors import RunError
from contrastive_cli.core.files import TEMPORARY_SUFFIX
from contrastive_cli.core.notes import note
from contrastive_cli.core.sizes import parse_size

IMAGES_FILE = "images.u8"
LABELS_FILE = "labels.npy"
META_FILE = "meta.json"
LIMIT = "CLR_CACHE_LIMIT"
NAME = re.compile(r"(?P<dataset>.+)-(?P<split>[a-z+]+)-(?P<size>\d+)px-[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheEntry:
    """A decoded split.

    Attributes:
        path: Its folder.
        images: How many; None if that cannot be read.
        bytes: Of its files.
        used: When it was opened last, in seconds of the epoch.
    """

    path: Path
    dataset: str
    split: str
    size: int
    images: int | None
    bytes: int
    used: float


def list_entries(folder: Path) -> list[CacheEntry]:
    """The entries below the folder of the cache, the one used last first."""
    try:
        with os.scandir(folder) as found:
            places = [Path(one.path) for one in found if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    entries = [entry for place in places if (entry := _read(place)) is not None]
    return sorted(entries, key=lambda entry: (-entry.used, entry.path))


def remove_entry(entry: CacheEntry) -> None:
    """Remove an entry; a process that is building it is not disturbed.

    Raises:
        RunError: If it is being built, or cannot be removed.
    """
    lock = entry.path.with_name(f"{entry.path.name}.lock")
    try:
        with FileLock(lock, timeout=0):
            # A name that nobody looks for, so that the entry is whole or absent.
            doomed = entry.path.with_name(f".{entry.path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
            entry.path.rename(doomed)
            shutil.rmtree(doomed)
    except Timeout:
        raise RunError(f"{entry.path.name} is being decoded right now", path=entry.path) from None
    except OSError as error:
        raise RunError(f"cannot remove {entry.path}: {error.strerror}", path=entry.path) from None
    with contextlib.suppress(OSError):
        lock.unlink()


def make_room(folder: Path, needed: int) -> None:
    """See that `needed` bytes can be written; beyond $CLR_CACHE_LIMIT, what was used longest ago goes first.

    Raises:
        UsageError: If the limit is not a size.
        RunError: If there is no space, or the limit is below what is needed.
    """
    limit = cache_limit()
    if limit is not None:
        if needed > limit:
            raise RunError(
                f"{needed / 1e6:.0f} MB are needed to decode these images, more than {LIMIT} allows "
                f"({limit / 1e6:.0f} MB)",
                hint=f"raise {LIMIT}, or choose a smaller size: --set dataset.size=N",
            )
        entries = list_entries(folder)
        total = sum(entry.bytes for entry in entries)
        for entry in reversed(entries):
            if total + needed <= limit:
                break
            with contextlib.suppress(RunError):  # it is in use, or not ours to remove
                remove_entry(entry)
                total -= entry.bytes
                note(f"removed {entry.path.name} from the cache ({entry.bytes / 1e6:.0f} MB; {LIMIT} is reached)")
    if shutil.disk_usage(folder).free < needed:
        raise RunError(
            f"no space left to decode into {folder} ({needed / 1e6:.0f} MB needed)",
            hint="set CLR_CACHE to a folder with enough space, or remove what is not used: clr cache list",
            path=folder,
        )


def cache_limit() -> int | None:
    """Bytes that the cache may take, by $CLR_CACHE_LIMIT; None without it.

    Raises:
        UsageError: If it is not a size.
    """
    text = os.environ.get(LIMIT, "").strip()
    if not text:
        return None
    return parse_size(text, name=LIMIT)


def mark_used(entry: Path) -> None:
    """Note that an entry was opened now; where that cannot be written it looks unused, which only costs time."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def unused_since(entries: list[CacheEntry], *, seconds: float) -> list[CacheEntry]:
    """Those that nobody opened for so long."""
    return [entry for entry in entries if entry.used < time.time() - seconds]


def _read(place: Path) -> CacheEntry | None:
    named = NAME.fullmatch(place.name)
    files = [place / name for name in (IMAGES_FILE, LABELS_FILE, META_FILE)]
    if named is None or not all(file.is_file() for file in files):
        return None
    try:
        size = sum(one.stat(follow_symlinks=False).st_size for one in os.scandir(place))
        used = place.stat().st_mtime
        images = _count(place)
    except OSError:
        return None
    return CacheEntry(
        path=place,
        dataset=named["dataset"],
        split=named["split"],
        size=int(named["size"]),
        images=images,
        bytes=size,
        used=used,
    )


def _count(place: Path) -> int | None:
    """The number of labels, by the head of their file: the list of paths may be long."""
    import numpy as np

    try:
        return len(np.load(place / LABELS_FILE, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, TypeError, EOFError):
        return None

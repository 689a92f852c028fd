"""Decode a split in shards, which several processes build side by side and which outlive a kill.

The shards lie in a folder beside the place of the entry that they will be. Whoever opens the split takes the next shard
at which nobody works, by a file lock. When all are there one process puts them together, in order, and asks of each
whether its sum is right. A kill costs the shards in work, and a damaged shard itself; nothing else is decoded again.

Locks only keep processes from doing the same: a shard appears whole or not at all, so two that build one do no harm.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from contrastive_cli.core.errors import RunError
from contrastive_cli.core.files import TEMPORARY_SUFFIX, sync_directory, write_atomically, write_json
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.cache_entries import IMAGES_FILE, make_room, shard_lock
from contrastive_cli.data.packing import Packed, pack_samples
from contrastive_cli.data.sources import BadFile, Samples

SHARD_BYTES = 2**28
JOINED_FILE = "joined.json"  # how many shards are in IMAGES_FILE already
BETWEEN_LOOKS = 0.1
COPY_BYTES = 2**22


@dataclass(frozen=True, kw_only=True, slots=True)
class Shards:
    """A split that is being decoded.

    Attributes:
        folder: Where its shards are.
        entry: Where the whole will be.
        total: Samples, bad ones among them.
        row_bytes: Of a decoded sample.
    """

    folder: Path
    entry: Path
    total: int
    row_bytes: int

    @property
    def ranges(self) -> list[range]:
        """The samples of each shard."""
        rows = max(1, SHARD_BYTES // self.row_bytes)
        return [range(start, min(start + rows, self.total)) for start in range(0, self.total, rows)]

    def pixels(self, number: int) -> Path:
        """The file of a shard's samples, until they are put together."""
        return self.folder / f"{number:05d}.u8"

    def facts(self, number: int) -> Path:
        """What is known of a shard; it is there when the shard is."""
        return self.folder / f"{number:05d}.json"

    def done(self) -> int:
        """Samples in the shards that are there."""
        return sum(len(indices) for number, indices in enumerate(self.ranges) if self.facts(number).exists())


def prepare(shards: Shards) -> None:
    """Clear away what earlier versions may have left unfinished, and see that there is room.

    Raises:
        RunError: If there is none.
    """
    for leftover in shards.entry.parent.glob(f".{glob.escape(shards.entry.name)}.*{TEMPORARY_SUFFIX}"):
        if leftover != shards.folder:
            shutil.rmtree(leftover, ignore_errors=True)
    make_room(shards.entry.parent, shards.total * shards.row_bytes, begun=shards.folder)
    shards.folder.mkdir(exist_ok=True)


def build_shards(
    shards: Shards,
    samples: Samples,
    *,
    is_whole: Callable[[], bool],
    progress: CountProgress | None,
    begin: Callable[[], None],
) -> None:
    """Decode shards until all are there, by whomever.

    Args:
        shards: Which.
        samples: The split.
        is_whole: Whether somebody has put them together already.
        progress: Called with (done, total) while this process decodes.
        begin: Called before each shard that this process decodes.

    Raises:
        OSError: If a shard cannot be written; those that are there stay.
    """
    while not is_whole() and shards.folder.is_dir():
        missing = [number for number in range(len(shards.ranges)) if not shards.facts(number).exists()]
        if not missing:
            return
        built = 0
        for number in missing:
            with _taken(shard_lock(shards.entry, number)) as taken:
                if not taken or is_whole() or shards.facts(number).exists():
                    continue
                begin()
                try:
                    _build_shard(shards, number, samples, progress=progress)
                except FileNotFoundError:
                    if shards.folder.is_dir():
                        raise
                built += 1
        if not built:
            time.sleep(BETWEEN_LOOKS)


@contextlib.contextmanager
def _taken(path: Path) -> Iterator[bool]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _build_shard(shards: Shards, number: int, samples: Samples, *, progress: CountProgress | None) -> None:
    before = shards.done()

    def count(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, shards.total)

    indices = shards.ranges[number]
    for leftover in shards.folder.glob(f"{number:05d}.[0-9]*"):
        leftover.unlink(missing_ok=True)
    unfinished = shards.folder / f"{number:05d}.{os.getpid()}"
    try:
        with unfinished.open("wb") as file:
            packed = pack_samples(samples, indices, file=file, progress=count)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(shards.pixels(number))
        _write_facts(shards.facts(number), packed, indices)
    except (OSError, RunError):
        shards.pixels(number).unlink(missing_ok=True)
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def _write_facts(path: Path, packed: Packed, indices: range) -> None:
    facts = {
        "samples": [indices.start, indices.stop],
        "left_out": sorted(set(indices) - set(packed.kept)),
        "bad_files": [asdict(bad) for bad in packed.bad_files],
        "pixels_sha256": packed.pixels_sha256,
        "histogram": packed.histogram.tolist(),
    }
    write_atomically(path, json.dumps(facts).encode())


def join_shards(shards: Shards) -> Packed | None:
    """Put the shards together, in order, into one file; a kill on the way loses none of them.

    For one process at a time.

    Returns:
        What is in the file; None where a shard was damaged or absent, which is gone now, so that it is built again.
    """
    found = [_read_facts(shards, number) for number in range(len(shards.ranges))]
    joined, whole = shards.folder / IMAGES_FILE, hashlib.sha256()
    already = _num_joined(shards) if joined.exists() else 0
    absent = [number for number in range(already, len(found)) if not shards.pixels(number).exists()]
    packed = [each for each in found if each is not None]
    if absent or len(packed) < len(found):
        _lose(shards, absent)
        return None
    if packed and not joined.exists():  # the first one becomes the file, without being copied
        write_json(shards.folder / JOINED_FILE, {"shards": 1})
        shards.pixels(0).replace(joined)
        already = 1
    with joined.open("r+b" if joined.exists() else "w+b") as file:
        for number, each in enumerate(packed):
            start, size = file.tell(), len(each.kept) * shards.row_bytes
            if number < already:
                if _copy(file, None, size, whole) != each.pixels_sha256:
                    write_json(shards.folder / JOINED_FILE, {"shards": number})
                    _lose(shards, range(number, already))
                    return None
                continue
            file.truncate(start)
            with shards.pixels(number).open("rb") as source:
                right = _copy(source, file, size, whole) == each.pixels_sha256 and not source.read(1)
            if not right:
                _lose(shards, [number])
                return None
            file.flush()
            os.fsync(file.fileno())
            write_json(shards.folder / JOINED_FILE, {"shards": number + 1})
            shards.pixels(number).unlink()
        file.truncate(file.tell())
    return _together(packed, pixels_sha256=whole.hexdigest())


def finish(shards: Shards) -> None:
    """Let the folder, in which all files of the entry are now, take its place."""
    shutil.rmtree(shards.entry, ignore_errors=True)  # what is there was found damaged
    shards.folder.rename(shards.entry)
    sync_directory(shards.entry.parent)
    for leftover in shards.entry.iterdir():
        if leftover.name == JOINED_FILE or leftover.name.startswith((".", *"0123456789")):
            leftover.unlink(missing_ok=True)


def _copy(source: BinaryIO, target: BinaryIO | None, size: int, whole: Any) -> str:
    """Copy `size` bytes, or as many as there are, and add them to a digest; returns their own sha256."""
    own = hashlib.sha256()
    while size > 0 and (block := source.read(min(size, COPY_BYTES))):
        own.update(block)
        whole.update(block)
        if target is not None:
            target.write(block)
        size -= len(block)
    return own.hexdigest()


def _lose(shards: Shards, numbers: Iterable[int]) -> None:
    for number in numbers:
        shards.facts(number).unlink(missing_ok=True)
        shards.pixels(number).unlink(missing_ok=True)


def _num_joined(shards: Shards) -> int:
    try:
        return int(json.loads((shards.folder / JOINED_FILE).read_bytes())["shards"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def _read_facts(shards: Shards, number: int) -> Packed | None:
    try:
        facts = json.loads(shards.facts(number).read_bytes())
        indices, left_out = shards.ranges[number], frozenset(facts["left_out"])
        histogram = np.array(facts["histogram"], dtype=np.int64).reshape(-1, 256)
        if facts["samples"] == [indices.start, indices.stop]:
            return Packed(
                kept=tuple(index for index in indices if index not in left_out),
                bad_files=tuple(BadFile(**bad) for bad in facts["bad_files"]),
                pixels_sha256=str(facts["pixels_sha256"]),
                histogram=histogram,
            )
    except (OSError, ValueError, LookupError, TypeError):
        pass
    _lose(shards, [number])
    return None


def _together(packed: list[Packed], *, pixels_sha256: str) -> Packed:
    histograms = [each.histogram for each in packed if each.kept]
    return Packed(
        kept=tuple(index for each in packed for index in each.kept),
        bad_files=tuple(bad for each in packed for bad in each.bad_files),
        pixels_sha256=pixels_sha256,
        histogram=np.sum(histograms, axis=0) if histograms else np.zeros((0, 256), np.int64),
    )

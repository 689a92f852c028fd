"""Decode a split once into a memory-mapped uint8 array, and find it again.

An entry of the cache is a folder, built beside its place and renamed into it, so it is whole or absent. It is built in
shards (`data.cache_shards`): a second process that wants the same split helps, and what a kill leaves is gone on with.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from contrastive_cli.core.errors import DataError, RunError
from contrastive_cli.core.files import cannot_write
from contrastive_cli.core.pictures import PictureRange
from contrastive_cli.core.types import CountProgress, Say, silent
from contrastive_cli.core.wording import counted
from contrastive_cli.data.bad_files import bad_files_csv, first_three, refuse_many_bad
from contrastive_cli.data.cache_entries import (
    IMAGES_FILE,
    LABELS_FILE,
    META_FILE,
    mark_used,
    unfinished_folder,
)
from contrastive_cli.data.cache_shards import Shards, build_shards, finish, join_shards, prepare
from contrastive_cli.data.images import Images
from contrastive_cli.data.packing import Packed
from contrastive_cli.data.reading import Reading
from contrastive_cli.data.scan import Labels
from contrastive_cli.data.sources import BadFile, Samples, Source

SCHEMA = 1
BAD_FILES_FILE = "bad_files.csv"
MOST_ATTEMPTS = 10


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageSet:
    """One split of a dataset, decoded.

    Attributes:
        images: uint8 [N, C, S, S], read-only and memory-mapped.
        labels: int64 [N], -1 where unknown.
        classes: Class names, by label; empty if there are no labels.
        paths: Relative posix paths or names, one a sample.
        fingerprint: sha256 of the decoded pixels, labels and paths.
        mean: Of each channel, in [0, 1].
        std: Of each channel, in [0, 1].
        bad_files: What was left out, and why.
        reading: How the folder was read, where the images are those of one.
        picture_range: By which pictures of more than eight bits were scaled; None if there are none.
        notes: What should be said of the pictures once.
    """

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    name: str
    split: str
    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bad_files: tuple[BadFile, ...]
    reading: Reading | None = None
    picture_range: PictureRange | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_samples(self) -> int:
        """N."""
        return int(self.images.shape[0])

    @property
    def channels(self) -> int:
        """C; 1 or 3, or as many as bands were chosen."""
        return int(self.images.shape[1])

    @property
    def size(self) -> int:
        """S, pixels of a side."""
        return int(self.images.shape[2])

    @property
    def left_out(self) -> tuple[BadFile, ...]:
        """Every file that is not used: undecodable ones, and those of other kinds."""
        others = () if self.reading is None else self.reading.unused
        return (*self.bad_files, *(BadFile(path=other.path, reason=other.reason) for other in others))

    @property
    def why_no_labels(self) -> str:
        """Why there are no labels, as the end of a sentence that says that there are none."""
        return "" if self.reading is None else f": {self.reading.why_no_labels(self.split)}"

    @property
    def has_labels(self) -> bool:
        """Whether any sample has a label."""
        return bool(self.classes) and bool((self.labels >= 0).any())


def cache_directory() -> Path:
    """Where decoded datasets are kept: $CLR_CACHE, else clr below $XDG_CACHE_HOME or ~/.cache.

    Raises:
        RunError: If it is to be in a home directory and there is none.
    """
    chosen = os.environ.get("CLR_CACHE")
    # The XDG specification says that a relative path in the variable is to be ignored.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return (Path(xdg) if Path(xdg).is_absolute() else Path("~/.cache").expanduser()) / "clr"
    except RuntimeError:  # as of a user of a container whom the system does not know
        message = "there is no home directory in which decoded images could be kept"
        raise RunError(message, hint="set CLR_CACHE to a writable folder with enough space") from None


def open_cached(
    source: Source, *, max_bad: float = 0.01, progress: CountProgress | None = None, say: Say = silent
) -> ImageSet:
    """Return the decoded split, from the cache or decoding it now.

    Args:
        source: What to decode.
        max_bad: Largest fraction of files that may be undecodable; three are always passed over unless it is 0.
        progress: Called with (done, total) while decoding.
        say: Told before decoding how many MB it makes.

    Raises:
        DataError: If more files are bad, or none is good.
        RunError: If the cache cannot be written.
    """
    entry = _entry_of(source)
    if (image_set := _read_entry(entry, source=source)) is None:
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            image_set = _build_entry(entry, source=source, progress=progress, say=say)
        except OSError as error:
            problem = cannot_write(entry, error)
            raise RunError(
                problem.message, hint="set CLR_CACHE to a writable folder with enough space", path=entry
            ) from error
    bad_list = entry / BAD_FILES_FILE
    refuse_many_bad(
        image_set.bad_files,
        image_set.num_samples + len(image_set.bad_files),
        max_bad=max_bad,
        hint=f"all are listed in {bad_list}; repair or remove them, or raise --max-bad",
        path=bad_list,
    )
    return image_set


def find_cached(source: Source) -> ImageSet | None:
    """The decoded split if it is in the cache; nothing is written."""
    return _read_entry(_entry_of(source), source=source)


def _entry_of(source: Source) -> Path:
    return cache_directory() / f"{source.name}-{source.split}-{source.size}px-{source_key(source)[:16]}"


def source_key(source: Source) -> str:
    """Hex sha256 that changes with the schema, the size, the channels, the split or any file of the source."""
    parts = [SCHEMA, source.name, source.split, source.size, source.channels, *source.identity]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _build_entry(entry: Path, *, source: Source, progress: CountProgress | None, say: Say) -> ImageSet:
    """Decode the split, together with whoever else is at it, and go on with what an earlier attempt has left."""
    samples = source.load()
    row_bytes = source.channels * source.size**2
    shards = Shards(folder=unfinished_folder(entry), entry=entry, total=len(samples.paths), row_bytes=row_bytes)
    lock = FileLock(entry.with_name(f"{entry.name}.lock"))
    said = False

    def begin() -> None:
        nonlocal said
        if not said:
            done, into = shards.done(), f"{shards.total * row_bytes / 1e6:.0f} MB of {entry.parent}"
            there = f"; {done} of them are there already" if done else ""
            say(f"decoding {counted(shards.total, 'image')}, once, into {into}{there}")
        said = True

    try:
        for _ in range(MOST_ATTEMPTS):
            with lock:  # another process may have built it meanwhile
                if (image_set := _read_entry(entry, source=source)) is not None:
                    return image_set
                prepare(shards)
            build_shards(
                shards,
                samples,
                is_whole=lambda: _read_entry(entry, source=source) is not None,
                progress=progress,
                begin=begin,
            )
            with lock:
                if (image_set := _read_entry(entry, source=source)) is not None:
                    return image_set
                if shards.folder.is_dir() and (packed := join_shards(shards)) is not None:
                    _finish(shards, source=source, samples=samples, packed=packed)
        raise RunError(
            f"what is decoded into {entry.parent} is damaged again and again", hint="check the disk", path=entry
        )
    except (OSError, RunError):
        with contextlib.suppress(OSError):
            shards.folder.rmdir()  # where nothing was written yet
        raise


def _finish(shards: Shards, *, source: Source, samples: Samples, packed: Packed) -> None:
    if not packed.kept:
        shutil.rmtree(shards.folder, ignore_errors=True)
        raise _all_bad(source, packed)
    _write_rest(shards.folder, source=source, samples=samples, packed=packed)
    finish(shards)


def _write_rest(folder: Path, *, source: Source, samples: Samples, packed: Packed) -> None:
    labels = samples.labels[np.array(packed.kept)]
    bad_files = (*samples.unreadable, *packed.bad_files)
    paths = [samples.paths[index] for index in packed.kept]
    mean, std = packed.mean_and_std()
    digest = hashlib.sha256(packed.pixels_sha256.encode())
    digest.update(labels.astype("<i8").tobytes())
    digest.update(json.dumps(paths).encode())
    meta = {
        "schema": SCHEMA,
        "shape": [len(paths), source.channels, source.size, source.size],
        "fingerprint": digest.hexdigest(),
        "mean": mean,
        "std": std,
        "classes": samples.classes,
        "paths": paths,
        "bad_files": [asdict(bad) for bad in bad_files],
    }
    _write_synced(folder / BAD_FILES_FILE, bad_files_csv(bad_files))
    buffer = io.BytesIO()
    np.save(buffer, labels)
    _write_synced(folder / LABELS_FILE, buffer.getvalue())
    _write_synced(folder / META_FILE, json.dumps(meta).encode())


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_entry(entry: Path, *, source: Source) -> ImageSet | None:
    """The entry, or None if it is absent or its files do not fit each other."""
    try:
        meta: dict[str, Any] = json.loads((entry / META_FILE).read_bytes())
        shape = tuple(int(length) for length in meta["shape"])
        labels = np.load(entry / LABELS_FILE, allow_pickle=False)
        whole = (entry / IMAGES_FILE).stat().st_size == np.prod(shape, dtype=np.int64)
        if meta["schema"] != SCHEMA or not whole or labels.shape != shape[:1] or len(meta["paths"]) != shape[0]:
            return None
        mark_used(entry)
        return ImageSet(
            images=np.memmap(entry / IMAGES_FILE, dtype=np.uint8, mode="r", shape=shape),
            labels=labels.astype(np.int64, copy=False),
            classes=tuple(meta["classes"]),
            paths=tuple(meta["paths"]),
            name=source.name,
            split=source.split,
            fingerprint=meta["fingerprint"],
            mean=tuple(meta["mean"]),
            std=tuple(meta["std"]),
            bad_files=tuple(BadFile(**bad) for bad in meta["bad_files"]),
            reading=source.reading,
            picture_range=source.picture_range,
            notes=source.notes,
        )
    except (OSError, EOFError, ValueError, LookupError, TypeError):
        return None


def _all_bad(source: Source, packed: Packed) -> DataError:
    shown = first_three(packed.bad_files)
    return DataError(f"none of the {len(packed.bad_files)} files of {source.name} can be read: {shown}")

"""Embeddings in a folder of shards: all processes make each together, and what was begun is gone on with.

The first process writes. Memory does not grow with the images: a process holds one shard, and what it received of the
others for it. Where a shard begins depends on the images and the size of a shard, never on the number of processes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from contrastive_cli.core.errors import ClrError, RunError
from contrastive_cli.core.files import cannot_write, is_temporary, sweep_temporaries
from contrastive_cli.core.notes import note
from contrastive_cli.core.types import CountProgress
from contrastive_cli.data.bad_files import refuse_many_bad
from contrastive_cli.data.images import BadImage
from contrastive_cli.data.loader import draw_positions
from contrastive_cli.data.sources import BadFile
from contrastive_cli.embeddings.files import read_embeddings
from contrastive_cli.embeddings.placing import kind_of
from contrastive_cli.embeddings.shard_folder import read_space, write_shard, write_space
from contrastive_cli.embeddings.shard_index import (
    FolderIndex,
    Shard,
    SpaceFile,
    is_shard_folder,
    is_whole,
    read_index,
    remove_shards,
    write_index,
)
from contrastive_cli.engine.distributed import from_first, process_rank
from contrastive_cli.services.inference.image_files import count_from, nothing_readable
from contrastive_cli.services.inference.measured_spaces import MEASURED_IMAGES
from contrastive_cli.services.inference.model import Model, width_of
from contrastive_cli.services.inference.named_images import NamedImages, embed_named, images_at_once
from contrastive_cli.services.inference.spaces import Placement, placed
from contrastive_cli.services.outputs import refuse_other_shards, taken

SHARDS_OF_A_FILE = 8  # shards that hold as much as the largest file
OTHER = "choose another --out"
LOCK_FILE = ".lock"  # programs that read a folder of parquet files pass over names that begin with a dot


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """Which rows are in which shard.

    Attributes:
        rows: Images of a shard, the last one has fewer.
        count: Images.
    """

    rows: int
    count: int

    @property
    def num_shards(self) -> int:
        """How many there are."""
        return math.ceil(self.count / self.rows)

    def rows_of(self, number: int) -> slice:
        """The images of a shard."""
        return slice(number * self.rows, min((number + 1) * self.rows, self.count))


def plan_shards(model: Model, images: NamedImages, *, layer: str, max_file: int) -> ShardPlan:
    """Shards of an eighth of the largest file, cut where one process cuts its work anyway."""
    unit = images_at_once(model, images)
    width = width_of(model, "z" if layer == "z" else "h")
    return ShardPlan(rows=max(1, max_file // SHARDS_OF_A_FILE // (4 * width) // unit) * unit, count=images.count)


def embed_in_shards(
    folder: Path,
    model: Model,
    images: NamedImages,
    where: Placement,
    *,
    plan: ShardPlan,
    overwrite: bool,
    max_bad: float | None,
    progress: CountProgress | None = None,
) -> FolderIndex:
    """Embed the images into a folder, in their order; shards of the same images that are whole are not made again.

    Raises:
        RunError: If the folder holds something else, or cannot be written.
        DataError: If no image can be read, or too few.
    """
    of = {
        "run": model.run.name,
        "checkpoint": model.checkpoint,
        "layer": where.layer,
        "space": where.kind,
        "crops": where.crops,
        "dataset": images.dataset,
        "first": str(images.files[0]) if images.files else None,
        "images": images.digest,
        "rows": plan.rows,
    }
    paths = frozenset(map(str, images.files))
    with _held(folder):
        begun = from_first(lambda: _begin(folder, of, overwrite=overwrite, paths=paths))
        done, kept = {shard.number: shard for shard in begun.shards}, begun.space
        if done:
            note(f"{folder}: {len(done)} of {plan.num_shards} shards are there already")
        if len(done) < plan.num_shards:
            where = _settled(where, model, images, folder=folder, begun=begun, progress=progress)
            if process_rank() == 0 and kept is None and where.space is not None:
                kept = write_space(folder, where.space)
        for number in range(plan.num_shards):
            if number in done:
                continue
            rows = plan.rows_of(number)
            after = None if progress is None else partial(count_from, progress, rows.start, plan.count)
            embeddings, bad = embed_named(
                model, images, rows=rows, layer=where.layer, crops=where.crops, progress=after
            )
            if process_rank() == 0:
                ready = None if embeddings is None else placed(embeddings, where)
                left_out = [(str(error.path), error.reason) for error in bad]
                done[number] = write_shard(folder, number, ready, left_out=left_out)
                write_index(folder, of=of, space=kept, shards=list(done.values()), finished=False)
        return from_first(lambda: _finish(folder, of, kept, list(done.values()), max_bad=max_bad))


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """While entered, no other command fills the folder.

    Raises:
        RunError: If another one does, or the folder holds something else, or cannot be written.
    """
    lock = FileLock(folder / LOCK_FILE, timeout=0.2)
    from_first(lambda: _acquire(lock, folder))
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, folder: Path) -> None:
    try:
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is a file, and shards need a folder", hint=OTHER, path=folder)
        folder.mkdir(parents=True, exist_ok=True)
        others = (file.name for file in folder.iterdir() if file.name != LOCK_FILE and not is_temporary(file.name))
        if not is_shard_folder(folder) and any(others):
            raise RunError(f"{folder} holds other files than shards of embeddings", hint=OTHER, path=folder)
        lock.acquire()
        sweep_temporaries(folder)
    except Timeout:
        raise RunError(f"{folder} is being filled by another process", hint=f"wait, or {OTHER}", path=folder) from None
    except OSError as error:
        raise cannot_write(folder, error) from error


def _begin(folder: Path, of: Mapping[str, Any], *, overwrite: bool, paths: frozenset[str]) -> FolderIndex:
    """The shards that are there and whole; an index says then that the folder is being filled."""
    done: list[Shard] = []
    kept: SpaceFile | None = None
    if is_shard_folder(folder):
        try:
            there = read_index(folder)
        except ClrError:
            if not overwrite:
                raise taken(folder, "something else than embeddings") from None
            there = None
        if there is not None and there.of == of and (there.space is None or is_whole(folder, there.space)):
            done = [shard for shard in there.shards if is_whole(folder, shard)]
            kept = there.space
            if there.finished and len(done) == len(there.shards):
                return there
        else:
            if there is not None and there.of != of and not overwrite:
                refuse_other_shards(folder, there=there.of, of=of, paths=paths)
            remove_shards(folder)
    return write_index(folder, of=of, space=kept, shards=done, finished=False)


def _settled(
    where: Placement,
    model: Model,
    images: NamedImages,
    *,
    folder: Path,
    begun: FolderIndex,
    progress: CountProgress | None,
) -> Placement:
    """The placement with its space, which all shards share: where none is known, that of images drawn ahead.

    The first process places, so that it alone has to know the space of shards that are there.
    """
    held = [shard for shard in begun.shards if shard.rows]
    if where.kind == "raw" or (where.kind is not None and where.space is not None):
        return where
    if held:
        if process_rank() > 0:
            return where
        kind = kind_of(read_embeddings(folder / held[0].file))
        return replace(where, kind=kind, space=read_space(folder, begun))
    drawn = draw_positions(images.count, limit=MEASURED_IMAGES, seed=0)
    raw, bad = embed_named(model, images, rows=drawn, layer=where.layer, crops=where.crops, progress=progress)
    if raw is None:
        raise nothing_readable(bad)
    embeddings = placed(raw, where)
    return replace(where, kind=kind_of(embeddings), space=embeddings.space)


def _finish(
    folder: Path, of: Mapping[str, Any], kept: SpaceFile | None, done: Sequence[Shard], *, max_bad: float | None
) -> FolderIndex:
    left_out = [BadFile(path=bad.path, reason=bad.reason) for shard in done for bad in shard.left_out]
    rows = sum(shard.rows for shard in done)
    if not rows:
        raise nothing_readable([BadImage(Path(bad.path), bad.reason) for bad in left_out])
    if max_bad is not None:
        hint = "repair or remove them, or raise --max-bad"
        refuse_many_bad(left_out, rows + len(left_out), max_bad=max_bad, hint=hint)
    there = read_index(folder)
    return there if there.finished else write_index(folder, of=of, space=kept, shards=done, finished=True)

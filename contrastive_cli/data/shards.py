"""A split whose pictures lie in shards: large files that hold many, with a label beside each.

Which file is of which split is read off the names, before any is opened. The shards are opened when the pictures are
decoded into the cache, once; all of them then, so that a class has the same number in every split.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.framing import Framing
from contrastive_cli.core.wording import counted
from contrastive_cli.data.images import Channels, Images
from contrastive_cli.data.layout import split_of
from contrastive_cli.data.scan import Labels, relative_names, stratified_split
from contrastive_cli.data.sources import Samples, Source, SplitRequest, stat_files

MOST_SHARDS = 100_000
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")

Label = int | str | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shard:
    """An opened file of pictures.

    Attributes:
        names: One a picture; unique within the file.
        labels: Numbers or names of classes, None where there is none; one a picture.
        decode: Called with the position of a picture, the side, the number of channels, and how the square is made;
            returns uint8 [C, S, S] and raises BadImage. Called from several threads.
    """

    names: tuple[str, ...]
    labels: tuple[Label, ...]
    decode: Callable[[int, int, Channels, Framing | None], Images]


def shard_source(request: SplitRequest, *, suffixes: tuple[str, ...], open_shard: Callable[[Path], Shard]) -> Source:
    """A split of the shards that `data_dir` names: a folder, one file, or a pattern of files.

    A name that speaks of train, val or test, as `imagenet-train-{000..146}.tar` does, says the split of a file, and so
    does a folder's. If none does, "train" and "test" are drawn from all pictures, within each class.

    Raises:
        DataError: If there are no such files, or none of this split.
    """
    root, shards = find_shards(request.data_dir, suffixes=suffixes)
    names = relative_names(shards, root)
    splits = [_split_of_shard(name) for name in names]
    is_drawn = not any(splits)
    chosen = _shards_of(request.split, splits, where=request.data_dir)

    def load() -> Samples:
        opened = [open_shard(shard) for shard in shards]
        labels, classes = number_classes([label for shard in opened for label in shard.labels])
        starts = np.cumsum([0, *(len(shard.names) for shard in opened)])
        positions = np.concatenate(
            [np.arange(starts[shard], starts[shard + 1]) for shard in range(len(shards)) if shard in chosen]
        )
        if is_drawn and request.split != "all":
            train, test = stratified_split(labels, seed=request.seed)
            positions = train if request.split == "train" else test
        paths = [f"{name}/{one}" for name, shard in zip(names, opened, strict=True) for one in shard.names]

        def read(index: int) -> Images:
            position = int(positions[index])
            shard = int(np.searchsorted(starts, position, side="right")) - 1
            place = position - int(starts[shard])
            return opened[shard].decode(place, request.size, request.channels, request.framing)

        if not len(positions):
            raise DataError(f"the shards of {request.split} in {request.data_dir} hold no pictures")
        return Samples(
            labels=labels[positions],
            classes=classes,
            paths=tuple(paths[position] for position in positions),
            read=read,
        )

    return Source(
        name=request.name,
        split=request.split,
        size=request.size,
        channels=request.channels,
        identity=(*stat_files(root, shards), f"drawn by {request.seed}" if is_drawn else "by name"),
        load=load,
        notes=(_describe(request.data_dir, splits),),
    )


def find_shards(where: Path, *, suffixes: tuple[str, ...]) -> tuple[Path, tuple[Path, ...]]:
    """The folder that holds the shards, and all of them, sorted.

    Args:
        where: A folder, which is searched with all below it, a file, or a pattern with `*`, `?`, `[ab]`, `{a,b}` and
            `{000..146}`.
        suffixes: Of the files.

    Raises:
        DataError: If there are none.
    """
    kinds = " or ".join(suffixes)
    if where.is_dir():
        below = (Path(folder) / name for folder, _, files in os.walk(where) for name in files)
        found = sorted(file for file in below if file.name.endswith(suffixes) and not file.name.startswith("."))
        if not found:
            hint = "archives that are compressed, such as .tar.gz, must be unpacked first (gunzip)"
            raise DataError(f"there is no file of {kinds} in {os.fspath(where)!r}", hint=hint, path=where)
        return where, tuple(found)
    if where.is_file():
        return where.parent, (where,)
    patterns = list(itertools.islice(_expand_braces(os.fspath(where)), MOST_SHARDS + 1))
    if len(patterns) > MOST_SHARDS:
        raise DataError(f"{os.fspath(where)!r} stands for more than {MOST_SHARDS} files", path=where)
    matched: set[str] = set()
    for pattern in patterns:
        matches = [pattern] if Path(pattern).is_file() else glob.glob(pattern)  # noqa: PTH207 - it may be absolute
        files = [name for name in matches if Path(name).is_file()]
        if not files:
            raise DataError(
                f"there is no file {pattern!r}",
                hint=f"--data-dir takes a folder of {kinds} files, one such file, or a pattern in quotes",
                path=where,
            )
        matched.update(files)
    shards = tuple(Path(name) for name in sorted(matched))
    return Path(os.path.commonpath([shard.parent for shard in shards])), shards


def number_classes(labels: Sequence[Label]) -> tuple[Labels, tuple[str, ...]]:
    """Labels as int64 [N], -1 where there is none, and the classes: numbers in their order, else names in theirs."""
    known = {label for label in labels if label is not None}
    if all(isinstance(label, int) for label in known):
        ordered: list[Label] = sorted(known, key=lambda label: int(label or 0))
    else:
        ordered = sorted(known, key=str)
    place = {label: number for number, label in enumerate(ordered)}
    numbers = np.array([-1 if label is None else place[label] for label in labels], np.int64)
    return numbers, tuple(str(label) for label in ordered)


def _expand_braces(pattern: str) -> Iterator[str]:
    """`{a,b}` and `{000..146}` are alternatives, as in a shell and in WebDataset."""
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    span = RANGE.fullmatch(found[1])
    if span is None:
        words = iter(found[1].split(","))
    else:
        numbers = range(int(span[1]), int(span[2]) + 1)
        words = (f"{number:0{len(span[1])}}" for number in numbers)
    for word in words:
        yield from _expand_braces(pattern[: found.start()] + word + pattern[found.end() :])


def _split_of_shard(name: str) -> str | None:
    """The split that the file's name speaks of, or that of the nearest folder."""
    stem, *folders = reversed(name.split("/"))
    for part in (stem.partition(".")[0], *folders):
        found = split_of(part)
        if found is not None:
            return found[0]
    return None


def _shards_of(split: str, splits: Sequence[str | None], *, where: Path) -> frozenset[int]:
    if split == "all" or not any(splits):
        if split not in ("all", "train", "test"):
            raise DataError(f"no file in {where} is named for {split}; there are train and test, which are drawn")
        return frozenset(range(len(splits)))
    names = {one for one in splits if one is not None}
    wanted = "val" if split == "test" and "test" not in names and "val" in names else split
    if wanted not in names:
        raise DataError(f"no file in {where} is named for {split}; there are {', '.join(sorted(names))} and all")
    return frozenset(number for number, one in enumerate(splits) if one == wanted)


def _describe(where: Path, splits: Sequence[str | None]) -> str:
    text = f"{where}: {counted(len(splits), 'shard')}"
    if not any(splits):
        return f"{text}; test is held out (a fifth of each class)"
    each = [f"{split} {splits.count(split)}" for split in ("train", "val", "test", "unlabeled") if split in splits]
    others = splits.count(None)
    return f"{text}; by name {', '.join(each)}" + (f"; {others} of no split" if others else "")

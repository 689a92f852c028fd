"""Datasets of one's own: a Python file that `--dataset` names, or an entry point of an installed package.

A file is imported only when a person names it on the command line, never because a run's configuration names it: a run
may come from a stranger. What was imported is known by its path and by the name that it gives itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np

from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.core.own_code import guarded, import_file, is_file_name
from contrastive_cli.data.images import Images
from contrastive_cli.data.sources import Samples, Source, SplitRequest
from contrastive_cli.data.spec import DatasetSpec

GROUP = "clr.datasets"
VARIABLE = "DATASET"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnDataset:
    """A dataset that does not come with clr, the file it is written in, and the sha256 of that."""

    spec: DatasetSpec
    file: Path
    sha256: str


_named: dict[str, OwnDataset] = {}


def name_dataset(name: str) -> str:
    """Import the file that a person names on the command line; returns its absolute path, and other names as they are.

    Raises:
        UsageError: If there is no such file, or it does not fit the contract.
    """
    if not is_file_name(name):
        return name
    file = Path(name).expanduser().absolute()
    if os.fspath(file) not in _named:
        own = _import_file(file)
        _named[os.fspath(file)] = own
        _named[own.spec.name] = own
    return os.fspath(file)


def with_named_dataset(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of options with the dataset's file, if it names one, imported and as an absolute path."""
    dataset = tree.get("dataset")
    if not isinstance(dataset, Mapping) or not isinstance(dataset.get("name"), str):
        return dict(tree)
    return {**tree, "dataset": {**dataset, "name": name_dataset(dataset["name"])}}


def find_own(name: str) -> OwnDataset | None:
    """A dataset of one's own that was named, or that an installed package offers under this name."""
    if name in _named:
        return _named[name]
    if _is_taken(name):  # entry points are looked for in every installed package
        return None
    for point in () if is_file_name(name) else metadata.entry_points(group=GROUP, name=name):
        found = guarded(point.load, where=f"the entry point {name} of {GROUP}")
        module = sys.modules.get(point.module)
        file = Path(getattr(module, "__file__", None) or point.module)
        spec = getattr(found, VARIABLE, found)  # a module, or the entry itself
        _named[name] = OwnDataset(
            spec=_checked_spec(spec, where=f"{point.value} ({GROUP})", name=name),
            file=file,
            sha256=hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "",
        )
        return _named[name]
    return None


def offered() -> list[str]:
    """The names that installed packages offer; none of them is imported."""
    return sorted({point.name for point in metadata.entry_points(group=GROUP)})


def checked_source(own: OwnDataset, request: SplitRequest) -> Source | None:
    """What its `open` returns, with the file's sha256 in its identity, so that another version is decoded anew.

    Raises:
        DataError: If it raises, or returns what is no `Source`.
    """
    source = guarded(lambda: own.spec.open(request), where=os.fspath(own.file), kind=DataError)
    if source is None:
        return None
    if not isinstance(source, Source):
        raise DataError(f"{own.file}: open returned {_kind(source)}, not a Source or None", path=own.file)

    def load() -> Samples:
        samples = guarded(source.load, where=os.fspath(own.file), kind=DataError)
        if not isinstance(samples, Samples):
            raise DataError(f"{own.file}: load returned {_kind(samples)}, not Samples", path=own.file)
        labels = np.asarray(samples.labels)
        if labels.shape != (len(samples.paths),) or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{own.file}: labels {labels.dtype} {list(labels.shape)} are not one integer for each of the "
                f"{len(samples.paths)} paths",
                path=own.file,
            )
        if len(labels) and (labels.min() < -1 or labels.max() >= max(1, len(samples.classes))):
            raise DataError(
                f"{own.file}: labels from {labels.min()} to {labels.max()} do not fit {len(samples.classes)} classes",
                path=own.file,
            )
        return replace(samples, labels=labels.astype(np.int64), read=_checked_read(own, samples, request))

    return replace(
        source,
        name=own.spec.name,
        split=request.split,
        size=request.size,
        channels=request.channels,
        identity=(*source.identity, f"file {own.sha256}"),
        load=load,
    )


def _checked_read(own: OwnDataset, samples: Samples, request: SplitRequest) -> Callable[[int], Images]:
    shape = (request.channels, request.size, request.size)

    def read(index: int) -> Images:
        pixels = guarded(lambda: samples.read(index), where=os.fspath(own.file), kind=DataError)
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != shape:
            found = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else _kind(pixels)
            raise DataError(f"{own.file}: read({index}) is {found}, not uint8 {list(shape)}", path=own.file)
        return pixels

    return read


def _import_file(file: Path) -> OwnDataset:
    code = import_file(file)
    if not hasattr(code.module, VARIABLE):
        raise UsageError(f"{file} does not define {VARIABLE}", hint=f"it ends with `{VARIABLE} = DatasetSpec(...)`")
    return OwnDataset(spec=_checked_spec(code.module.DATASET, where=os.fspath(file)), file=file, sha256=code.sha256)


def _checked_spec(spec: Any, *, where: str, name: str | None = None) -> DatasetSpec:
    """The entry, if it fits the contract.

    Raises:
        UsageError: With what does not fit.
    """
    if not isinstance(spec, DatasetSpec):
        raise UsageError(f"{where}: {VARIABLE} is {_kind(spec)}, not a DatasetSpec")
    problems = []
    if not NAME.fullmatch(str(spec.name)):
        problems.append(f"name {spec.name!r} is not made of lower-case letters, digits and hyphens")
    elif name is not None and spec.name != name:
        problems.append(f"name {spec.name!r} is not the entry point's, {name!r}")
    elif _is_taken(spec.name):
        problems.append(f"name {spec.name!r} is that of a dataset of clr")
    channels, size = (cast(object, value) for value in (spec.channels, spec.size))  # it may hold anything
    if channels not in (1, 3):
        problems.append(f"channels {channels!r} is neither 1 nor 3")
    if not isinstance(size, int) or not 8 <= size <= 1024:
        problems.append(f"size {size!r} is not from 8 to 1024")
    if spec.pretrain_split not in spec.splits:
        problems.append(f"pretrain_split {spec.pretrain_split!r} is not among splits {list(spec.splits)}")
    if not callable(cast(object, spec.open)):
        problems.append("open cannot be called")
    if problems:
        raise UsageError(f"{where}: {'; '.join(problems)}")
    return spec


def _is_taken(name: str) -> bool:
    return name.replace("-", "_") in {entry.stem for entry in (Path(__file__).parent / "entries").glob("[a-z]*.py")}


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"

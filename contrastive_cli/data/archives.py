"""Read the published files of each dataset as they lie on disk, from any copy, without running code they hold.

torchvision's readers insist on the md5 of the original archive and unpickle with the full pickle module; these check
shapes instead, and the CIFAR pickles are read by the machine that reads all pickles of strangers.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_cli.core.errors import DataError, UnsafeFileError
from contrastive_cli.data.images import Images
from contrastive_cli.data.scan import Labels
from contrastive_cli.data.sources import Samples, Source, SplitRequest, array_samples, stat_files
from contrastive_cli.pickles.reader import DamagedPickleError
from contrastive_cli.pickles.reader import load as load_pickle

MAX_PICKLE_BYTES = 400_000_000
MAX_IDX_IMAGES = 1_000_000

Arrays = tuple[Images, Labels]


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """How a dataset is published.

    Attributes:
        folders: Where its files may lie below the data directory; first found wins.
        files: The files of each split, all needed; a file may also be there with `.gz`.
        read: Reads the files of one split.
        classes: Class names by label.
    """

    folders: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    read: Callable[[Sequence[Path]], Arrays]
    classes: tuple[str, ...]


def find_archive(request: SplitRequest, *, archive: Archive) -> Source | None:
    """The split as it is published below the data directory, or None if no file of it is there.

    Raises:
        DataError: If some of its files are there and others are not.
    """
    splits = request.split.split("+")
    for folder in archive.folders:
        parts = {
            split: [_existing(request.data_dir / folder, name) for name in archive.files[split]] for split in splits
        }
        files = [file for part in parts.values() for file, exists in part if exists]
        missing = [file.name for part in parts.values() for file, exists in part if not exists]
        if files and missing:
            raise DataError(
                f"{request.name} in {request.data_dir / folder} is incomplete: {', '.join(missing)} missing",
                hint="fetch it again with --download",
                path=request.data_dir / folder,
            )
        if files:
            wanted = {split: [file for file, _ in part] for split, part in parts.items()}
            return _archive_source(request, archive=archive, parts=wanted)
    return None


def read_cifar(files: Sequence[Path], *, label_key: str, num_classes: int) -> Arrays:
    """CIFAR's "python version": pickled dictionaries with data [n, 3072] (channel, row, column) and labels."""
    images: list[Images] = []
    labels: list[int] = []
    for file in files:
        batch = _unpickle_arrays(file)
        pixels = batch.get("data")
        found = batch.get(label_key)
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3072,):
            raise _damaged(file, "no uint8 data [n, 3072]")
        if not isinstance(found, list) or not all(isinstance(label, int) for label in found):
            raise _damaged(file, f"no list of integers {label_key!r}")
        images.append(pixels.reshape(-1, 3, 32, 32))
        labels += found
    return _checked(np.concatenate(images), np.array(labels, dtype=np.int64), num_classes=num_classes, file=files[0])


def read_stl10(files: Sequence[Path]) -> Arrays:
    """STL-10's binary files: images [n, 3, 96 columns, 96 rows] uint8, labels 1..10 in a second file or none."""
    bytes_each = 3 * 96 * 96
    size = files[0].stat().st_size
    if size == 0 or size % bytes_each:
        raise _damaged(files[0], f"{size} bytes are not a whole number of 96 x 96 images")
    images = np.memmap(files[0], dtype=np.uint8, mode="r", shape=(size // bytes_each, 3, 96, 96))
    upright = images.transpose(0, 1, 3, 2)
    if len(files) == 1:
        return upright, np.full(len(images), -1, dtype=np.int64)
    labels = np.fromfile(files[1], dtype=np.uint8).astype(np.int64) - 1
    return _checked(upright, labels, num_classes=10, file=files[1])


def read_svhn(files: Sequence[Path]) -> Arrays:
    """SVHN's cropped digits: a MATLAB file with X [32, 32, 3, n] uint8 and y [n, 1], where 10 means the digit 0."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(files[0], variable_names=("X", "y"))
        pixels, labels = content["X"], content["y"].astype(np.int64).reshape(-1) % 10
    except (MatReadError, OSError, ValueError, TypeError, LookupError, NotImplementedError, zlib.error) as error:
        raise _damaged(files[0], " ".join(str(error).split())) from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise _damaged(files[0], f"X is {pixels.dtype} {pixels.shape}, not uint8 (32, 32, 3, n)")
    return _checked(pixels.transpose(3, 2, 0, 1), labels, num_classes=10, file=files[0])


def read_idx(files: Sequence[Path], *, num_classes: int) -> Arrays:
    """MNIST's idx files: big-endian header, then uint8; images [n, 28, 28] and labels [n], plain or gzipped."""
    images = _read_idx_array(files[0], num_dimensions=3)
    labels = _read_idx_array(files[1], num_dimensions=1)
    return _checked(images[:, None], labels.astype(np.int64), num_classes=num_classes, file=files[1])


def _archive_source(request: SplitRequest, *, archive: Archive, parts: Mapping[str, Sequence[Path]]) -> Source:
    def load() -> Samples:
        samples: list[Samples] = []
        for split, files in parts.items():
            images, labels = archive.read(files)
            prefix = f"{request.name}/{split}"
            samples.append(
                array_samples(
                    images,
                    labels,
                    classes=archive.classes,
                    prefix=prefix,
                    size=request.size,
                    framing=request.framing,
                )
            )
        return samples[0] if len(samples) == 1 else _joined(samples)

    files = [file for part in parts.values() for file in part]
    return Source(
        name=request.name,
        split=request.split,
        size=request.size,
        channels=request.channels,
        identity=stat_files(files[0].parent, files),
        load=load,
    )


def _joined(parts: Sequence[Samples]) -> Samples:
    starts = np.cumsum([0, *(len(part.paths) for part in parts)])

    def read(index: int) -> Images:
        part = int(np.searchsorted(starts, index, side="right")) - 1
        return parts[part].read(index - int(starts[part]))

    return Samples(
        labels=np.concatenate([part.labels for part in parts]),
        classes=parts[0].classes,
        paths=tuple(path for part in parts for path in part.paths),
        read=read,
    )


def _existing(folder: Path, name: str) -> tuple[Path, bool]:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file, True
    return folder / name, False


def _checked(images: Images, labels: Labels, *, num_classes: int, file: Path) -> Arrays:
    if len(images) != len(labels):
        raise _damaged(file, f"{len(labels)} labels for {len(images)} images")
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise _damaged(file, f"labels from {labels.min()} to {labels.max()}, not 0 to {num_classes - 1}")
    return images, labels


def _damaged(file: Path, reason: str) -> DataError:
    return DataError(f"{file} is damaged: {reason}", hint="fetch it again with --download", path=file)


def _read_idx_array(file: Path, *, num_dimensions: int) -> Images:
    opener: Any = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rb") as stream:
            magic, *shape = struct.unpack(f">{1 + num_dimensions}I", stream.read(4 * (1 + num_dimensions)))
            if magic != 0x0800 + num_dimensions or shape[0] > MAX_IDX_IMAGES or any(n > 1024 for n in shape[1:]):
                raise _damaged(file, f"not an idx file of uint8 with {num_dimensions} dimensions")
            expected = int(np.prod(shape, dtype=np.int64))
            content = stream.read(expected + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise _damaged(file, " ".join(str(error).split())) from None
    if len(content) != expected:
        raise _damaged(file, f"it does not hold the {expected} bytes that its header states")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _unpickle_arrays(file: Path) -> dict[str, Any]:
    try:
        batch = load_pickle(file, max_bytes=MAX_PICKLE_BYTES)
    except DamagedPickleError:
        raise _damaged(file, "it is no whole pickle") from None
    except UnsafeFileError as error:
        hint = "a CIFAR batch holds arrays only; fetch it again with --download"
        raise UnsafeFileError(error.message, hint=hint, path=file) from None
    if not isinstance(batch, dict):
        raise _damaged(file, "it is no dictionary")
    # Python 2 wrote the keys as bytes.
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in batch.items()}

"""Lists of pairs of images, same or different: reading them, and drawing them from labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.errors import DataError
from contrastive_cli.core.files import delimiter_of, harmless_path
from contrastive_cli.data.scan import Labels

HEADER = ("path_a", "path_b", "same")
MOST_SAMPLES = 3000  # whose pairs are all looked at when some are drawn
USUAL_PAIRS = 3000
TRUTH = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A row of a list of pairs, and the number of its line in the file."""

    first: Path
    second: Path
    same: bool
    line: int


def read_pairs(file: Path, *, root: Path) -> list[Pair]:
    """Read a CSV file with the header path_a,path_b,same; comma, semicolon or tab; paths are relative to `root`.

    Raises:
        DataError: With file and line, if it is no such file, a row is not whole, or an image does not exist.
    """
    try:
        if file.exists() and not file.is_file() and not file.is_dir():  # a FIFO would be waited for
            raise DataError(f"{file} is no file", path=file)
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
        rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter_of(text))
        header = next(rows, [])
        if tuple(cell.strip().lower() for cell in header) != HEADER:
            raise DataError(f"{file}:1: the header must be {','.join(HEADER)}, not {','.join(header)!r}", path=file)
        pairs = [_pair(row, file=file, line=rows.line_num, root=root) for row in rows if row]
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", path=file) from None
    except csv.Error as error:
        raise DataError(f"{file} is no CSV file: {error}", path=file) from None
    if not pairs:
        raise DataError(f"{file} holds no pairs", path=file)
    return pairs


def _pair(row: Sequence[str], *, file: Path, line: int, root: Path) -> Pair:
    if len(row) != len(HEADER):
        raise DataError(f"{file}:{line}: {len(row)} cells instead of {','.join(HEADER)}", path=file)
    truth = TRUTH.get(row[2].strip().lower())
    if truth is None:
        raise DataError(f"{file}:{line}: same is {row[2]!r}, and must be 1 or 0", path=file)
    paths = [root / cell for cell in row[:2]]
    for path in paths:
        if "\0" in str(path) or not path.is_file():
            raise DataError(
                f"{file}:{line}: there is no file {str(path)!r}", hint="paths are relative to --root", path=file
            )
    return Pair(first=paths[0], second=paths[1], same=truth, line=line)


def draw_pairs(labels: Labels, *, count: int | None, seed: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw pairs of labeled samples, half of one class and half of two, none twice.

    Every class gives as many same pairs, and every two classes as many different ones, as long as they have them: a
    class with many samples does not decide the result.

    Args:
        labels: int64 [N], -1 where unknown; of more than 3,000 labeled samples as many are drawn first.
        count: How many pairs; one of the halves is smaller by one if it is odd. None takes 3,000, or as many as
            there are in equal halves.
        seed: Same seed, same pairs.

    Returns:
        Positions [count, 2] in shuffled order, and whether each pair is of one class [count].

    Raises:
        DataError: If there are not so many pairs of a kind.
    """
    generator = np.random.default_rng(seed)
    known = np.sort(generator.permutation(np.flatnonzero(labels >= 0))[:MOST_SAMPLES])
    pairs = known[np.stack(np.triu_indices(len(known), k=1), axis=1)]
    classes = np.sort(labels[pairs], axis=1)
    is_same = classes[:, 0] == classes[:, 1]
    if count is None:
        count = 2 * max(1, min(USUAL_PAIRS // 2, int(is_same.sum()), int((~is_same).sum())))
    parts = []
    for kind, wanted in ((True, count // 2), (False, count - count // 2)):
        members = generator.permutation(np.flatnonzero(is_same == kind))
        if wanted > len(members):
            word = "same" if kind else "different"
            raise DataError(
                f"{wanted} {word} pairs were asked for, and the labels give {len(members)}", hint="lower --count"
            )
        turn = _turns(classes[members, 0] * (classes.max() + 1) + classes[members, 1])
        parts.append(members[np.argsort(turn, kind="stable")[:wanted]])
    chosen = generator.permutation(np.concatenate(parts))
    return pairs[chosen], is_same[chosen]


def _turns(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of its group come before each element."""
    order = np.argsort(groups, kind="stable")
    _, counts = np.unique(groups, return_counts=True)
    turns = np.empty(len(groups), np.int64)
    turns[order] = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    return turns


def pairs_csv(paths: Sequence[str], positions: NDArray[np.int64], same: NDArray[np.bool_]) -> bytes:
    """A list of pairs as `read_pairs` reads it; no cell is one that a spreadsheet would run."""
    text = io.StringIO()
    is_odd = any("\r" in path for path in paths)  # which csv quotes in its newer releases only
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if is_odd else csv.QUOTE_MINIMAL)
    writer.writerow(HEADER)
    for (first, second), truth in zip(positions, same, strict=True):
        writer.writerow([harmless_path(paths[first]), harmless_path(paths[second]), int(truth)])
    return text.getvalue().encode("utf-8", "surrogateescape")

"""Several processes embed and search as one does, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from distributed.process_pool import Pool
from distributed.shared_work import embed_files, embed_shards, search
from PIL import Image

from contrastive_cli.core.choices import Metric


def write_pictures(folder: Path, count: int) -> list[str]:
    generator = np.random.default_rng(0)
    folder.mkdir()
    files = [folder / f"{number:03}.png" for number in range(count)]
    for file in files:
        Image.fromarray(generator.integers(0, 256, (12, 12), dtype=np.uint8)).save(file)
    return [str(file) for file in files]


def test_embed_readable__files_in_the_order_of_one_process(pool: Pool, trained: Path, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "pictures", 45)
    for broken in (3, *range(8, 16), 44):  # the second piece of eight has no picture at all
        Path(files[broken]).write_bytes(b"no picture")
    arguments = {"run": str(trained / "runs/small"), "files": files, "at_once": 8}
    (one,) = pool.run(embed_files, 1, **arguments)
    assert len(one["paths"]) == 35
    assert len(one["bad"]) == 10
    for size in (2, 3):
        for found in pool.run(embed_files, size, **arguments):
            assert found == one


def test_embed_readable__fewer_pieces_than_processes(pool: Pool, trained: Path, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "pictures", 5)
    arguments = {"run": str(trained / "runs/small"), "files": files, "at_once": 8}
    (one,) = pool.run(embed_files, 1, **arguments)
    assert pool.run(embed_files, 2, **arguments) == [one, one]


def test_embed_readable__nothing_can_be_read(pool: Pool, trained: Path, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{number}.png") for number in range(20)]
    for file in files:
        Path(file).write_bytes(b"no picture")
    (one, two) = pool.run(embed_files, 2, run=str(trained / "runs/small"), files=files, at_once=8)
    assert one == two
    assert one["paths"] is None
    assert [path for path, _ in one["bad"]] == files


@pytest.mark.parametrize("kind", ["raw", None])
def test_embed_in_shards__the_bytes_of_one_process(pool: Pool, trained: Path, tmp_path: Path, kind: str | None) -> None:
    arguments = {"run": str(trained / "runs/small"), "split": "train", "max_file": 8 * 512 * 32 * 4, "kind": kind}
    (one,) = pool.run(embed_shards, 1, folder=str(tmp_path / "one"), **arguments)
    space = [] if kind == "raw" else ["space.npz"]
    assert list(one) == ["index.json", *(f"shard-{number:05}.parquet" for number in range(3)), *space]
    for size in (2, 3):
        for found in pool.run(embed_shards, size, folder=str(tmp_path / str(size)), **arguments):
            assert found == one


def some_table(rows: int, *, seed: int) -> np.ndarray:
    """Clusters far from the origin, equal rows and a zero row among them."""
    generator = np.random.default_rng(seed)
    centers = 5 + generator.standard_normal((7, 24))
    table = centers[np.sort(generator.integers(7, size=rows))] + 0.1 * generator.standard_normal((rows, 24))
    table[100:160] = table[50]  # more than the candidates of a row, so that some are searched again
    table[20] = 0
    return table.astype(np.float32)


SELF_JOIN = (0, 10_000, 64, 96, 96)  # tiles of 96 rows, by symmetry
BY_QUERIES = (10_000, 200, 64, 96, 96)  # 200 queries at a time


@pytest.mark.parametrize(
    ("way", "metric"),
    [
        ("symmetry", "cosine"),
        ("rows", "euclidean"),
        ("queries", "euclidean"),
        ("mapped", "cosine"),
        *(pytest.param(way, "cosine", marks=pytest.mark.slow) for way in ("rows", "queries")),
        *(pytest.param(way, "euclidean", marks=pytest.mark.slow) for way in ("symmetry", "mapped")),
    ],
)
def test_nearest_neighbors__the_bits_of_one_process(pool: Pool, tmp_path: Path, metric: Metric, way: str) -> None:
    np.save(tmp_path / "table.npy", some_table(900, seed=0))
    np.save(tmp_path / "queries.npy", some_table(230, seed=1))
    arguments = {
        "table": str(tmp_path / "table.npy"),
        "queries": str(tmp_path / "queries.npy") if way == "queries" else None,
        "k": 9,
        "metric": metric,
        "sizes": SELF_JOIN if way in ("symmetry", "mapped") else BY_QUERIES,
        "mapped": way == "mapped",
    }
    ((indices, distances, slow),) = pool.run(search, 1, **arguments)
    assert way == "queries" or slow > 0
    for size in (2, 3):
        found = pool.run(search, size, **arguments)
        assert all(answer[:2] == (indices, distances) for answer in found)
        assert sum(answer[2] for answer in found) == slow  # they share that too

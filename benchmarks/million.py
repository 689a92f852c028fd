"""Neighbors of a query set in a large memory-mapped file, by `clr knn`: seconds and the peak memory of the process.

    OMP_NUM_THREADS=2 python -m benchmarks.million [--rows 1000000 --queries 10000 --faiss]

The file (2 GB by default) is made in a temporary folder and removed afterwards. `--faiss` times faiss too, which
holds the whole table in memory. Fails if the peak is beyond `--limit-mb`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PIECE = 10_000


def main() -> None:
    """Print one line per search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--limit-mb", type=float, default=400)
    parser.add_argument("--faiss", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, queries = Path(folder, "table.npy"), Path(folder, "queries.npy")
        write_table(table, rows=options.rows, dimensions=options.dimensions)
        np.save(queries, np.load(table, mmap_mode="r")[: options.queries] + np.float32(0.1))
        size = table.stat().st_size / 1e6
        for metric in ("cosine", "euclidean"):
            arguments = ["knn", table, "--queries", queries, "-k", options.k, "--metric", metric, "--json"]
            seconds, peak = measure([sys.executable, "-m", "contrastive_cli", *map(str, arguments)])
            print(
                f"{options.queries} queries in {options.rows} x {options.dimensions} ({size:.0f} MB), {metric}: "
                f"{seconds:.1f} s, peak {peak:.0f} MB",
                flush=True,
            )
            if peak > options.limit_mb:
                sys.exit(f"the peak is beyond {options.limit_mb:.0f} MB")
        if options.faiss:
            print(f"faiss, inner product: {by_faiss(table, queries, options.k):.1f} s of search")


def write_table(path: Path, *, rows: int, dimensions: int) -> None:
    """A hundred clusters."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((100, dimensions), dtype=np.float32)
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimensions)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, rows, PIECE):
            part = centers[generator.integers(100, size=min(PIECE, rows - start))]
            stream.write((part + generator.standard_normal(part.shape, dtype=np.float32)).data)


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of a process (which counts what this one held when it was started)."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    peak = usage.ru_maxrss
    return time.perf_counter() - started, (peak if sys.platform == "darwin" else peak * 1024) / 1e6


def by_faiss(table: Path, queries: Path, k: int) -> float:
    """Seconds of an exact search of the table in memory."""
    import faiss

    vectors, asked = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in map(np.load, (table, queries)))
    started = time.perf_counter()
    faiss.knn(asked, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

"""Time of exact nearest neighbors, in turns with faiss: all rows among themselves, and queries against them.

OMP_NUM_THREADS=2 python -m benchmarks.knn --samples 50000 --dimensions 512 -k 20 --rounds 2 [--scikit-learn]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Row, record
from contrastive_cli.core.choices import Metric
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.embeddings.search.threads import count_threads

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
NUM_QUERIES = 10_000


def main() -> None:
    """Print one line per search and round: both times, their ratio, and how many neighbors are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scikit-learn", action="store_true", help="time its brute force too")
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((100, options.dimensions), dtype=np.float32)
    vectors = centers[generator.integers(100, size=options.samples)]
    vectors += generator.standard_normal(vectors.shape, dtype=np.float32)
    queries = vectors[:NUM_QUERIES] + np.float32(0.1)
    times: dict[str, list[tuple[float, float]]] = {}
    for metric in METRICS:
        for _ in range(options.rounds):
            ours, found = timed(lambda metric=metric: nearest_neighbors(vectors, k=options.k, metric=metric))  # type: ignore[misc]
            theirs, others = timed(lambda metric=metric: by_faiss(vectors, None, options.k, metric))  # type: ignore[misc]
            what = f"exact self-kNN, {options.samples:,} x {options.dimensions}, k {options.k}, {metric}"
            report(what, ours, theirs, found.indices, others)
            times.setdefault(what, []).append((ours, theirs))
            ours, found = timed(
                lambda metric=metric: nearest_neighbors(vectors, k=options.k, metric=metric, queries=queries)  # type: ignore[misc]
            )
            theirs, others = timed(lambda metric=metric: by_faiss(vectors, queries, options.k, metric))  # type: ignore[misc]
            what = (
                f"{len(queries):,} queries against {options.samples:,} x {options.dimensions}, k {options.k}, {metric}"
            )
            report(what, ours, theirs, found.indices, others)
            times.setdefault(what, []).append((ours, theirs))
        if options.scikit_learn:
            seconds, _ = timed(lambda metric=metric: by_scikit_learn(vectors, options.k, metric))  # type: ignore[misc]
            print(f"self, {metric}: scikit-learn {seconds:.2f} s", flush=True)
    if options.record:
        rows = []
        for what, pairs in times.items():
            ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
            rows.append(Row(what=what, clr=ours, unit="s", peer="faiss", theirs=theirs, rounds=options.rounds))
        record("knn", rows, threads=count_threads())


def timed(search: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what was found."""
    started = time.perf_counter()
    found = search()
    return time.perf_counter() - started, found


def report(name: str, ours: float, theirs: float, found: NDArray[np.int64], others: NDArray[np.int64]) -> None:
    """Print a line."""
    same = 100 * float((found == others).mean())
    print(f"{name}: clr {ours:.2f} s, faiss {theirs:.2f} s, ratio {ours / theirs:.2f}, same {same:.3f} %", flush=True)


def by_faiss(vectors: NDArray[np.float32], queries: NDArray[np.float32] | None, k: int, metric: Metric) -> Any:
    """Exact search of faiss; of a search among themselves each row finds itself first, which is cut off."""
    kind = faiss.METRIC_L2
    if metric == "cosine":
        kind = faiss.METRIC_INNER_PRODUCT
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = None if queries is None else queries / np.linalg.norm(queries, axis=1, keepdims=True)
    if queries is None:
        return faiss.knn(vectors, vectors, k + 1, metric=kind)[1][:, 1:]
    return faiss.knn(queries, vectors, k, metric=kind)[1]


def by_scikit_learn(vectors: NDArray[np.float32], k: int, metric: Metric) -> Any:
    """Brute force of scikit-learn, self excluded."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(vectors)
    return model.kneighbors(return_distance=False)


if __name__ == "__main__":
    main()

"""Time of exact nearest neighbours of all rows, beside scikit-learn and faiss.

OMP_NUM_THREADS=2 python -m benchmarks.knn --samples 50000 --dimensions 512 -k 20 [--others]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.embeddings.knn import nearest_neighbors


def main() -> None:
    """Print one line per program and metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--others", action="store_true", help="time scikit-learn and faiss too")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((100, options.dimensions), dtype=np.float32)
    vectors = centers[generator.integers(100, size=options.samples)]
    vectors += generator.standard_normal(vectors.shape, dtype=np.float32)
    for metric in ("cosine", "euclidean"):
        timed(f"clr {metric}", lambda metric=metric: nearest_neighbors(vectors, k=options.k, metric=metric).indices)
        if options.others:
            timed(f"scikit-learn {metric}", lambda metric=metric: sklearn_neighbors(vectors, options.k, metric))
    if options.others:
        timed("faiss euclidean", lambda: faiss_neighbors(vectors, options.k))


def timed(name: str, search: Callable[[], NDArray[np.int64]]) -> None:
    """Print wall and processor time; on a busy machine only the latter means something."""
    wall, processor = time.perf_counter(), time.process_time()
    checksum = int(search()[:, 0].sum())
    spent = f"{time.perf_counter() - wall:.2f} s wall, {time.process_time() - processor:.2f} s processor"
    print(f"{name}: {spent}, checksum of the nearest {checksum}", flush=True)


def sklearn_neighbors(vectors: NDArray[np.float32], k: int, metric: str) -> NDArray[np.int64]:
    """Brute force of scikit-learn, self excluded."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(vectors)
    found: NDArray[np.int64] = model.kneighbors(return_distance=False)
    return found


def faiss_neighbors(vectors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Exact search of faiss; each row finds itself first, which is cut off."""
    import faiss

    found: NDArray[np.int64] = faiss.knn(vectors, vectors, k + 1)[1][:, 1:]
    return found


if __name__ == "__main__":
    main()

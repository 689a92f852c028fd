"""Time of t-SNE and UMAP maps from one graph of exact neighbors.

    OMP_NUM_THREADS=2 python -m benchmarks.projection [--samples 10000 50000 --scikit-learn]

One line per size and step: wall and processor seconds, imports and compilation included, and of a map the part of the
ten nearest points of each that are of its cluster. `--scikit-learn` times its Barnes-Hut t-SNE on the same graph.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Row, record
from contrastive_cli.core.choices import ProjectionKind
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.embeddings.search.threads import count_threads
from contrastive_cli.viz.projection import neighbors_needed, project

KINDS: tuple[ProjectionKind, ...] = ("tsne", "umap")
NUM_CLUSTERS = 100
Result = TypeVar("Result")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--scikit-learn", action="store_true")
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    rows: list[Row] = []
    for count in options.samples:
        centers = generator.standard_normal((NUM_CLUSTERS, options.dimensions), dtype=np.float32)
        labels = generator.integers(NUM_CLUSTERS, size=count)
        vectors = centers[labels] + generator.standard_normal((count, options.dimensions), dtype=np.float32)
        k = max(neighbors_needed(count, kind=kind) for kind in KINDS)
        found = timed(f"{count}: {k} exact neighbors", lambda vectors=vectors, k=k: nearest_neighbors(vectors, k=k))  # type: ignore[misc]
        graph = found.indices, found.distances
        for kind in KINDS:
            started = time.perf_counter()
            drawn = timed(
                f"{count}: {kind}",
                lambda vectors=vectors, kind=kind, graph=graph: project(vectors, kind=kind, seed=0, neighbors=graph),  # type: ignore[misc]
            )
            drawn_in = time.perf_counter() - started
            what = f"{kind} of {count:,} x {options.dimensions} from the graph of neighbors"
            rows.append(Row(what=what, clr=drawn_in, unit="s"))
            print(f"{count}: {kind}: {100 * purity(drawn, labels):.1f} % of the ten nearest in the map of one cluster")
        if options.scikit_learn:
            drawn = timed(f"{count}: t-SNE of scikit-learn", lambda graph=graph, v=vectors: by_scikit_learn(v, graph))  # type: ignore[misc]
            print(f"{count}: scikit-learn: {100 * purity(drawn, labels):.1f} % of the ten nearest of one cluster")
    if options.record:
        record("projection", rows, threads=count_threads())


def timed(name: str, work: Callable[[], Result]) -> Result:
    """The result of the work, after a line with its time."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    print(f"{name}: {time.perf_counter() - wall:.1f} s, {time.process_time() - processor:.1f} processor s", flush=True)
    return result


def purity(coordinates: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The part of the ten nearest points of each that have its label."""
    from scipy.spatial import cKDTree

    nearest = cKDTree(coordinates).query(coordinates, k=11)[1][:, 1:]
    return float((labels[nearest] == labels[:, None]).mean())


def by_scikit_learn(
    vectors: NDArray[np.float32], graph: tuple[NDArray[np.int64], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Barnes-Hut t-SNE from the same graph and start."""
    from scipy.sparse import csr_matrix
    from sklearn.manifold import TSNE

    count = len(vectors)
    indices = np.hstack([np.arange(count)[:, None], graph[0]])
    distances = np.hstack([np.zeros((count, 1)), np.sqrt(2 * graph[1].astype(np.float64))])
    rows = np.arange(0, indices.size + 1, indices.shape[1])
    matrix = csr_matrix((distances.ravel(), indices.ravel(), rows), shape=(count, count))
    start = project(vectors, kind="pca", seed=0)
    return TSNE(metric="precomputed", init=start / start[:, 0].std() * 1e-4, random_state=0).fit_transform(matrix)  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()

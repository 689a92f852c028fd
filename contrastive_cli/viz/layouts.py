"""From a graph of neighbors to a map: the gradient descents of t-SNE and of UMAP.

t-SNE: van der Maaten and Hinton, 2008, https://jmlr.org/papers/v9/vandermaaten08a.html, by openTSNE: Barnes-Hut for
fewer than 10,000 samples, else interpolation (FIt-SNE, Linderman et al., 2019, https://doi.org/10.1038/s41592-018-0308-4).
UMAP: McInnes et al., 2018, https://arxiv.org/abs/1802.03426, by umap-learn.
"""

from __future__ import annotations

import io
import warnings
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from contrastive_cli.core.types import CountProgress

Floats: TypeAlias = NDArray[np.float32]
Graph: TypeAlias = tuple[NDArray[np.int64], Floats]  # other samples [N, K], ascending distances [N, K]

EARLY_STEPS, STEPS = 250, 500
EXAGGERATION = 12
STEPS_PER_REPORT = 10


def tsne_layout(
    graph: Graph, *, start: Floats, perplexity: float, seed: int, progress: CountProgress | None = None
) -> Floats:
    """Coordinates [N, 2] from `start` [N, 2]; `progress` is called with (steps done, all steps)."""
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    num_threads = _count_threads()
    index = PrecomputedNeighbors(graph[0], graph[1].astype(np.float64))
    affinities = PerplexityBasedNN(knn_index=index, perplexity=perplexity, n_jobs=num_threads)
    embedding = TSNEEmbedding(
        start / start[:, 0].std() * 1e-4, affinities, n_jobs=num_threads, random_state=seed % 2**32
    )
    done = 0

    def report(step: int, _: float, __: NDArray[Any]) -> None:
        if progress is not None:
            progress(done + step, EARLY_STEPS + STEPS)

    for steps, exaggeration in ((EARLY_STEPS, EXAGGERATION), (STEPS, 1)):
        embedding.optimize(
            steps,
            exaggeration=exaggeration,
            momentum=0.8,
            inplace=True,
            use_callbacks=progress is not None,
            callbacks=report,
            callbacks_every_iters=STEPS_PER_REPORT,
        )
        done += steps
    return np.asarray(embedding, np.float32)


def umap_layout(
    prepared: Floats, graph: Graph, *, start: Floats, seed: int, progress: CountProgress | None = None
) -> Floats:
    """Coordinates [N, 2] from `start` [N, 2]; the vectors `prepared` [N, D] are only counted, the graph is used."""
    indices, distances = graph
    own = np.arange(len(indices))[:, None]  # umap wants each sample first among its own neighbors
    indices, distances = np.hstack([own, indices]), np.hstack([np.zeros_like(distances[:, :1]), distances])
    # A little noise parts samples that are equal, and gives flat maps a second extent (umap divides by it).
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=start.shape).astype(np.float32)
    with warnings.catch_warnings():
        # Missing optional TensorFlow, and "no transform of new data" for given neighbors: neither concerns us.
        warnings.simplefilter("ignore")
        from umap import UMAP

        umap = UMAP(
            n_neighbors=indices.shape[1],
            metric="euclidean",
            init=start / np.abs(start).max() * 10.0 + noise,
            random_state=seed % 2**32,
            n_jobs=1,
            precomputed_knn=(indices, distances),
            force_approximation_algorithm=True,  # else umap ignores the neighbors of small sets
            tqdm_kwds={
                "disable": progress is None,
                "file": _CountsFromText(progress),
                "bar_format": "{n} {total}",
                "mininterval": 0.5,
            },
        )
        return np.asarray(umap.fit_transform(prepared), np.float32)


class _CountsFromText(io.StringIO):
    """Where umap-learn writes its progress bar, the only way in which it tells how far it is."""

    def __init__(self, progress: CountProgress | None) -> None:
        super().__init__()
        self._progress = progress

    def write(self, text: str) -> int:
        words = text.split()
        if self._progress is not None and len(words) == 2 and all(word.isdecimal() for word in words):
            self._progress(int(words[0]), int(words[1]))
        return len(text)


def _count_threads() -> int:
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"), default=1)

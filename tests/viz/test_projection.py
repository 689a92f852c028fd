"""Maps: classes apart, the same map for the same seed, small and degenerate input, neighbors from outside."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import NearestNeighbors

from contrastive_cli.core.choices import Metric, ProjectionKind
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.viz import layouts
from contrastive_cli.viz.projection import neighbors_needed, project, select_classes, subsample


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    pixels, labels = load_digits(return_X_y=True)
    return pixels[:300].astype(np.float32), labels[:300]


def purity(coordinates: NDArray[Any], labels: NDArray[Any]) -> float:
    """The part of the ten nearest points in the map that are of the same class; chance is 0.1 for digits."""
    indices = NearestNeighbors(n_neighbors=10).fit(coordinates).kneighbors(return_distance=False)
    return float((labels[indices] == labels[:, None]).mean())


def slow_neighbors(vectors: NDArray[Any], *, k: int, metric: Metric) -> tuple[NDArray[Any], NDArray[Any]]:
    distances, indices = NearestNeighbors(n_neighbors=k, metric=metric).fit(vectors).kneighbors()
    return indices, distances


def test_project__tsne_separates_digits(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    vectors, labels = digits
    coordinates = project(vectors, kind="tsne", seed=0)
    assert coordinates.shape == (300, 2)
    assert coordinates.dtype == np.float32
    assert purity(coordinates, labels) > 0.9


def test_project__umap_separates_digits(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    # The only quick test of UMAP: its compilation takes most of the time.
    vectors, labels = digits[0][:200], digits[1][:200]
    known = slow_neighbors(vectors, k=neighbors_needed(200, kind="umap"), metric="cosine")
    seen: list[tuple[int, int]] = []
    found = project(
        vectors, kind="umap", seed=3, neighbors=known, progress=lambda done, all_: seen.append((done, all_))
    )
    assert purity(found, labels) > 0.8
    assert seen[-1] == (500, 500)
    assert sorted(seen) == seen


@pytest.mark.slow
def test_project__umap_is_deterministic_and_bears_duplicates(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    vectors, labels = digits
    coordinates = project(vectors, kind="umap", seed=3)
    assert purity(coordinates, labels) > 0.9
    np.testing.assert_array_equal(coordinates, project(vectors, kind="umap", seed=3))
    assert not np.array_equal(coordinates, project(vectors, kind="umap", seed=4))
    for count in (3, 4, 5):
        assert np.isfinite(project(vectors[:count], kind="umap", seed=0)).all()
    assert np.isfinite(project(np.repeat(np.eye(2), 6, axis=0), kind="umap", seed=0)).all()


def test_project__pca_matches_scikit_learn(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    vectors, _ = digits
    ours = project(vectors, kind="pca", seed=0, metric="euclidean") * np.abs(vectors).max()
    theirs = PCA(n_components=2).fit_transform(vectors.astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-3, atol=2e-3)
    wide = vectors[:20]  # fewer samples than dimensions take the other way
    theirs = PCA(n_components=2).fit_transform(wide.astype(np.float64))
    ours = project(wide, kind="pca", seed=0, metric="euclidean") * np.abs(wide).max()
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-3, atol=2e-3)


def test_project__cosine_ignores_length(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    vectors, _ = digits
    lengths = np.random.default_rng(0).uniform(0.1, 10.0, size=(300, 1))
    expected = project(vectors, kind="pca", seed=0)
    np.testing.assert_allclose(project(vectors * lengths, kind="pca", seed=0), expected, atol=1e-4)
    assert not np.allclose(project(vectors * lengths, kind="pca", seed=0, metric="euclidean"), expected, atol=1e-2)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_project__extreme_scales_change_nothing(digits: tuple[NDArray[Any], NDArray[Any]], scale: float) -> None:
    vectors, _ = digits
    for metric in ("cosine", "euclidean"):
        expected = project(vectors, kind="pca", seed=0, metric=metric)
        scaled = project((vectors * scale).astype(np.float32), kind="pca", seed=0, metric=metric)
        np.testing.assert_allclose(scaled, expected, atol=1e-4)


@pytest.mark.parametrize("method", ["bh", "fft"])
def test_tsne_layout__threads_do_not_matter(digits: tuple[NDArray[Any], NDArray[Any]], method: str) -> None:
    """openTSNE sums in one order, whatever the threads: both of its ways, by enough samples for each."""
    vectors = digits[0][:200] if method == "bh" else np.random.default_rng(0).normal(size=(10_000, 2))
    found = nearest_neighbors(vectors, k=10, metric="euclidean")
    start = vectors[:, 30:32] if method == "bh" else vectors
    maps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "EARLY_STEPS", 5)
        patch.setattr(layouts, "STEPS", 5)
        for num_threads in (1, 2, 3):
            patch.setattr(layouts, "_count_threads", lambda num_threads=num_threads: num_threads)
            maps.append(layouts.tsne_layout((found.indices, found.distances), start=start, perplexity=3, seed=0))  # type: ignore[arg-type]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_project__tsne_is_as_faithful_as_scikit_learn(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    vectors = digits[0][:200]
    seen: list[tuple[int, int]] = []
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ours = project(vectors, kind="tsne", seed=0, progress=lambda done, total: seen.append((done, total)))
    theirs = TSNE(init="pca", random_state=0).fit_transform(units)
    assert trustworthiness(units, ours, n_neighbors=10) > trustworthiness(units, theirs, n_neighbors=10) - 0.01
    assert seen == [(done, 750) for done in range(10, 751, 10)]


def test_project__same_seed_same_tsne(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    vectors, _ = digits
    first = project(vectors[:80], kind="tsne", seed=7)
    np.testing.assert_array_equal(first, project(vectors[:80], kind="tsne", seed=7))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_project__given_neighbors_are_as_good(digits: tuple[NDArray[Any], NDArray[Any]], metric: Metric) -> None:
    vectors, labels = digits[0][:150], digits[1][:150]
    known = slow_neighbors(vectors, k=neighbors_needed(150, kind="tsne", perplexity=10) + 5, metric=metric)
    computed = project(vectors, kind="tsne", seed=0, metric=metric, perplexity=10)
    given = project(vectors, kind="tsne", seed=0, metric=metric, perplexity=10, neighbors=known)
    assert purity(given, labels) > 0.75
    assert purity(given, labels) == pytest.approx(purity(computed, labels), abs=0.03)


def test_project__given_neighbors_are_used(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    vectors, labels = digits
    needed = neighbors_needed(300, kind="tsne", perplexity=10)
    indices, distances = slow_neighbors(vectors, k=needed, metric="cosine")
    order = np.random.default_rng(0).permutation(300)
    # The graph of shuffled samples: the map must follow the graph, not the vectors.
    shuffled = (np.argsort(order)[indices[order]], distances[order])
    coordinates = project(vectors, kind="tsne", seed=0, neighbors=shuffled, perplexity=10)
    assert purity(coordinates, labels[order]) > 0.85
    assert purity(coordinates, labels) < 0.3


def test_project__unfit_neighbors_are_refused(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    vectors, _ = digits
    indices, distances = slow_neighbors(vectors, k=91, metric="cosine")
    unfit = {
        "too few": (indices[:, :20], distances[:, :20]),
        "do not belong": (indices[:200], distances[:200]),
        "other samples": (np.hstack([np.arange(300)[:, None], indices[:, 1:]]), distances),
        "numbered 0 to 299": (indices + 300, distances),
        "NaN": (indices, np.full_like(distances, np.nan)),
    }
    for message, neighbors in unfit.items():
        with pytest.raises(DataError, match=message):
            project(vectors, kind="tsne", seed=0, neighbors=neighbors)


@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("kind", ["tsne", "pca"])
def test_project__few_samples(digits: tuple[NDArray[Any], NDArray[Any]], count: int, kind: ProjectionKind) -> None:
    coordinates = project(digits[0][:count], kind=kind, seed=0)
    assert coordinates.shape == (count, 2)
    assert np.isfinite(coordinates).all()
    assert len(np.unique(coordinates, axis=0)) == count


@pytest.mark.parametrize("kind", ["tsne", "umap", "pca"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_project__identical_vectors_meet_in_one_point(kind: ProjectionKind, metric: Metric) -> None:
    same = np.tile(np.random.default_rng(0).normal(size=(1, 16)) * 100, (40, 1)).astype(np.float32)
    assert not project(same, kind=kind, seed=0, metric=metric).any()


def test_project__duplicates_zero_vectors_and_one_dimension() -> None:
    twice = np.repeat(np.eye(2), 6, axis=0)
    assert np.isfinite(project(twice, kind="tsne", seed=0)).all()
    twice[0] = 0.0
    assert np.isfinite(project(twice, kind="tsne", seed=0)).all()
    line = project(np.arange(9.0)[:, None], kind="pca", seed=0, metric="euclidean")
    np.testing.assert_allclose(np.diff(line[:, 0]), 1 / 8, atol=1e-6)
    assert not line[:, 1].any()


def test_project__bad_vectors_are_refused() -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    with pytest.raises(DataError, match="at least 3"):
        project(vectors[:2], kind="pca", seed=0)
    with pytest.raises(DataError, match="at least 3"):
        project(vectors[0], kind="pca", seed=0)
    vectors[5, 1] = np.nan
    vectors[7, 1] = np.inf
    with pytest.raises(DataError, match=r"2 of 9 vectors .* number 5"):
        project(vectors, kind="pca", seed=0)


def test_project__wrong_arguments() -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    with pytest.raises(ValueError, match="perplexity"):
        project(vectors, kind="tsne", seed=0, perplexity=0.0)
    with pytest.raises(ValueError, match="known are"):
        project(vectors, kind="lda", seed=0)  # type: ignore[arg-type]


def test_select_classes__largest_first_and_by_name() -> None:
    labels = np.array([2, 0, 1, 1, -1, 2, 2, 5, -1, -1, -1, -1])
    classes = ["ant", "bee", "cat"]
    np.testing.assert_array_equal(select_classes(labels, classes=classes, num_classes=2), [0, 2, 3, 5, 6])
    np.testing.assert_array_equal(select_classes(labels, classes=classes, num_classes=3), [0, 1, 2, 3, 5, 6])
    np.testing.assert_array_equal(select_classes(labels, classes=classes, names=["ant", "5"]), [1, 7])
    np.testing.assert_array_equal(select_classes(labels, classes=classes), np.flatnonzero(labels >= 0))
    with pytest.raises(UsageError, match="did you mean 'bee'"):
        select_classes(labels, classes=classes, names=["bees"])
    with pytest.raises(UsageError, match="at least 1"):
        select_classes(labels, classes=classes, num_classes=0)


def test_subsample__draws_without_replacement() -> None:
    drawn = subsample(1000, limit=100, seed=0)
    assert len(np.unique(drawn)) == 100
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, subsample(1000, limit=100, seed=0))
    assert not np.array_equal(drawn, subsample(1000, limit=100, seed=1))
    np.testing.assert_array_equal(subsample(5, limit=100, seed=0), np.arange(5))
    with pytest.raises(ValueError, match="limit"):
        subsample(5, limit=0, seed=0)


def test_import__brings_no_heavy_library() -> None:
    code = (
        "import sys, contrastive_cli.viz.projection, contrastive_cli.viz.scatter, contrastive_cli.viz.curves,"
        " contrastive_cli.viz.grids; print(*({'matplotlib', 'sklearn', 'umap', 'scipy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import DataError, UsageError
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.embeddings.files import NeighborsFile, read_neighbors, write_neighbors
from contrastive_cli.embeddings.search.nearest_neighbors import nearest_neighbors
from contrastive_cli.services.configuration import read_run_config, resolve
from contrastive_cli.services.figures.neighbors import plot_neighbors
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.mined_neighbors import neighbors_of, purity, refuse_other_neighbors, without_self
from contrastive_cli.services.training.resumption import Changes
from contrastive_cli.services.training.sessions import resume_session, start_session
from contrastive_cli.services.training.setup import TrainingSetup, set_up_training
from contrastive_cli.services.training.steps import Batches
from contrastive_cli.views.augment import make_views

K = 4


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLR_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_dataset("digits", split="train", data_dir=None, size=32)


@pytest.fixture(scope="module")
def mined(digits: ImageSet) -> NeighborsFile:
    """Neighbors by pixels."""
    pixels = np.asarray(digits.images, np.float32).reshape(digits.num_samples, -1)
    found = nearest_neighbors(pixels, k=K)
    dataset = {"name": digits.name, "split": digits.split, "fingerprint": digits.fingerprint}
    return NeighborsFile(indices=found.indices, distances=found.distances, metric="cosine", dataset=dataset)


def changed(file: NeighborsFile, **columns: Any) -> NeighborsFile:
    indices: NDArray[np.int64] = columns.get("indices", file.indices)
    distances = np.zeros(indices.shape, np.float32)
    dataset = columns.get("dataset", file.dataset)
    return NeighborsFile(indices=indices, distances=distances, metric=file.metric, dataset=dataset)


def written(folder: Path, file: NeighborsFile) -> Path:
    path = folder / "neighbors.pkl"
    write_neighbors(path, file)
    return path


def setup_of(path: Path | None, *, seed: int = 0, **chosen: Any) -> TrainingSetup:
    flags: dict[str, Any] = {"method": {"name": "byol", **chosen}, "device": "cpu", "seed": seed}
    flags |= {"encoder": {"name": "resnet9", "width": 4, "embedding_dim": 8}, "train": {"epochs": 1, "batch_size": 300}}
    if path is not None:
        flags["neighbors"] = str(path)
    return set_up_training(resolve(config=None, sets={}, flags=flags).config)


def test_neighbors_of__what_is_known(digits: ImageSet, mined: NeighborsFile, tmp_path: Path) -> None:
    path = written(tmp_path, mined)
    found = neighbors_of(digits, read_neighbors(path), path=path)
    np.testing.assert_array_equal(found.indices.numpy(), mined.indices)
    assert found.facts.per_image == K
    assert found.facts.fingerprint == digits.fingerprint
    same = [digits.labels[i] == digits.labels[j] for i, row in enumerate(mined.indices) for j in row]
    assert found.facts.purity == pytest.approx(np.mean(same))
    assert f"{100 * np.mean(same):.1f} % of them are of its class" in found.describe()


def test_neighbors_of__images_of_the_same_names_at_another_size(
    digits: ImageSet, mined: NeighborsFile, tmp_path: Path, clr_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLR_CACHE", str(clr_cache))
    smaller = open_dataset("digits", split="train", data_dir=None, size=16)
    assert smaller.fingerprint != digits.fingerprint
    path = written(tmp_path, mined)
    with pytest.raises(DataError, match="is of digits train with fingerprint"):
        neighbors_of(smaller, read_neighbors(path), path=path)
    write_neighbors(path, replace(mined, paths=digits.paths))
    found = neighbors_of(smaller, read_neighbors(path), path=path)
    assert torch.equal(found.indices, torch.from_numpy(without_self(mined.indices).copy()))
    assert found.facts.fingerprint == digits.fingerprint
    write_neighbors(path, replace(mined, paths=digits.paths[::-1]))
    with pytest.raises(DataError, match="is of digits train with fingerprint"):
        neighbors_of(smaller, read_neighbors(path), path=path)


def test_neighbors_of__a_file_without_fingerprint_is_taken_with_a_note(
    digits: ImageSet, mined: NeighborsFile, tmp_path: Path
) -> None:
    foreign = changed(mined, dataset={})
    found = neighbors_of(digits, foreign, path=written(tmp_path, foreign))
    assert found.facts.fingerprint is None
    assert "only their number was checked" in found.describe()


def test_neighbors_of__refuses_what_does_not_fit(digits: ImageSet, mined: NeighborsFile, tmp_path: Path) -> None:
    path, count = tmp_path / "neighbors.pkl", digits.num_samples
    beyond, own = mined.indices.copy(), np.arange(count)[:, None]
    beyond[5, 2] = count
    cases = [
        (changed(mined, indices=mined.indices[:-1]), f"of {count - 1} images, but digits train has {count}"),
        (changed(mined, dataset={**mined.dataset, "fingerprint": "0" * 64}), f"000000.*{digits.fingerprint[:12]}"),
        (changed(mined, indices=beyond), f"names position {count} of {count} images"),
        (changed(mined, indices=own), "as its only neighbor"),
        (replace(mined, queries="others.npy"), r"neighbors of others\.npy in another set"),
    ]
    for file, message in cases:
        with pytest.raises(DataError, match=message) as caught:
            neighbors_of(digits, file, path=path)
        assert caught.value.hint is not None


def test_without_self__leaves_no_image_with_itself_and_keeps_the_order() -> None:
    with_own = np.array([[0, 2, 1], [3, 1, 0], [0, 1, 3], [2, 1, 3]])
    assert without_self(with_own).tolist() == [[2, 1], [3, 0], [0, 1], [2, 1]]
    none = np.array([[1, 2], [0, 2], [1, 0]])
    assert without_self(none) is none


def test_purity__counts_pairs_with_two_known_labels() -> None:
    labels = np.array([0, 0, 1, -1])
    assert purity(np.array([[1, 2], [0, 3], [0, 3], [0, 1]]), labels) == 2 / 4
    assert purity(np.array([[3], [3], [3], [0]]), labels) is None


def test_batches__views_show_mined_neighbors_of_the_sample(
    digits: ImageSet, mined: NeighborsFile, tmp_path: Path
) -> None:
    setup = setup_of(written(tmp_path, mined), positives="neighbor", neighbor_probability=0.5)
    assert setup.neighbors is not None
    batch = Batches(setup).part(1, slice(None))
    config = setup.config

    def views_of(positions: torch.Tensor) -> torch.Tensor:
        """View 2 of every sample of the batch, if it showed the images at `positions`."""
        return make_views(
            setup.source.gather(positions)[None], recipes=[config.views], indices=batch.indices, size=32,
            mean=digits.mean, std=digits.std, seed=config.seed, epoch=0, first_view=1,
        )[0]  # fmt: skip

    candidates = torch.cat((batch.indices[:, None], setup.neighbors.indices[batch.indices]), dim=1)  # [B, 1 + K]
    shown = torch.stack([(views_of(column) == batch.single_views[1]).flatten(1).all(dim=1) for column in candidates.T])
    assert shown.any(dim=0).all()
    assert 0.35 < 1 - shown[0].float().mean() < 0.65
    assert batch.labels is not None
    assert batch.labels.tolist() == digits.labels[batch.indices.numpy()].tolist()

    plain = Batches(setup_of(None)).part(1, slice(None))
    assert torch.equal(plain.single_views[0], batch.single_views[0])
    assert not torch.equal(plain.single_views[1], batch.single_views[1])


def test_prepare__neighbors_are_given_exactly_where_they_are_shown(mined: NeighborsFile, tmp_path: Path) -> None:
    path = written(tmp_path, mined)
    with pytest.raises(UsageError, match="no --neighbors FILE") as caught:
        setup_of(None, positives="mix")
    assert caught.value.hint is not None
    assert all(command in caught.value.hint for command in ("clr embed", "clr knn", "clr pretrain"))
    with pytest.raises(UsageError, match="byol shows no neighbors as it is set"):
        setup_of(path)
    with pytest.raises(UsageError, match="simclr shows no neighbors"):
        setup_of(path, name="simclr")


def test_refuse_other_neighbors__after_the_file_has_changed(
    digits: ImageSet, mined: NeighborsFile, tmp_path: Path
) -> None:
    path = written(tmp_path, mined)
    started = neighbors_of(digits, mined, path=path)
    refuse_other_neighbors(started, started.facts)
    other = changed(mined, indices=mined.indices[:, ::-1])
    now = neighbors_of(digits, other, path=written(tmp_path, other))
    with pytest.raises(DataError, match=f"{now.facts.sha256[:12]}.*{started.facts.sha256[:12]}"):
        refuse_other_neighbors(now, started.facts)


def test_resume_session__follows_a_file_that_moved_and_no_other(
    mined: NeighborsFile, tmp_path: Path, clr_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLR_CACHE", str(clr_cache))
    path = written(tmp_path, mined)
    small = {"encoder.width": 4, "encoder.embedding_dim": 8, "train.batch_size": 300, "train.epochs": 1}
    given = {"method.name": "byol", "method.positives": "mix", "device": "cpu", "neighbors": str(path)}
    config = resolve(config=None, sets={}, flags=nested({**small, **given, "train.save_every": 1e-9})).config
    training = train_session(session := start_session(config, out=tmp_path / "run", overwrite=False))
    next(training)
    training.close()  # type: ignore[attr-defined]
    moved = path.rename(tmp_path / "moved.pkl")
    changes = Changes(config=None, sets={}, flags=nested({"neighbors": str(moved)}))
    resumed = resume_session(session.run, changes=changes)
    assert [status.step for status in train_session(resumed)] == [2, 3, 4]
    assert read_run_config(session.run).neighbors == moved
    write_neighbors(moved, changed(mined, indices=mined.indices[:, ::-1].copy()))
    longer = Changes(config=None, sets={}, flags=nested({"train.epochs": 2}))
    with pytest.raises(DataError, match="is not the file that the run was started with"):
        resume_session(session.run, changes=longer)


def test_plot_neighbors__draws_a_file_and_asks_for_what_is_missing(mined: NeighborsFile, tmp_path: Path) -> None:
    target = plot_neighbors(None, file=written(tmp_path, mined), out=None, count=3, data_dir=None)
    assert target == tmp_path / "neighbors.png"
    assert target.read_bytes().startswith(b"\x89PNG")
    nameless = written(tmp_path, changed(mined, dataset={}))
    with pytest.raises(DataError, match="does not say of which dataset"):
        plot_neighbors(None, file=nameless, out=None, count=3, data_dir=None)
    with pytest.raises(UsageError, match="no neighbors to draw"):
        plot_neighbors(None, file=None, out=None, count=3, data_dir=None)


@pytest.mark.parametrize(
    "dataset", [{"name": "../../etc\n[red]"}, {"name": "digits", "split": "../x"}, {"name": ["a"]}]
)
def test_plot_neighbors__of_a_dataset_that_is_none(
    mined: NeighborsFile, dataset: dict[str, Any], tmp_path: Path
) -> None:
    file = written(tmp_path, changed(mined, dataset=dataset))
    with pytest.raises(DataError, match=r"\.pkl: (no dataset named|dataset digits has no split)"):
        plot_neighbors(None, file=file, out=None, count=3, data_dir=None)

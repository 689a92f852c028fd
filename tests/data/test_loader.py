from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.loader import (
    DeviceImages,
    balanced_batch_indices,
    batch_indices,
    fits_on_device,
    steps_per_epoch,
)


def indices_at(step: int, *, num_samples: int = 23, batch_size: int = 5, seed: int = 1) -> tuple[int, list[int]]:
    epoch, indices = batch_indices(step=step, num_samples=num_samples, batch_size=batch_size, seed=seed)
    assert indices.dtype == torch.int64
    return epoch, indices.tolist()


def test_batch_indices__an_epoch_visits_no_sample_twice() -> None:
    steps = [indices_at(step) for step in range(8)]
    assert [epoch for epoch, _ in steps] == [0, 0, 0, 0, 1, 1, 1, 1]
    for start in (0, 4):
        seen = [index for _, indices in steps[start : start + 4] for index in indices]
        assert len(seen) == len(set(seen)) == 20
        assert set(seen) <= set(range(23))


def test_batch_indices__pure_function_of_the_step() -> None:
    forward = [indices_at(step) for step in range(40)]
    backward = [indices_at(step) for step in reversed(range(40))]
    assert forward == backward[::-1]


def test_batch_indices__seeds_and_epochs_differ_and_global_generator_is_untouched() -> None:
    state = torch.get_rng_state()
    orders = {tuple(indices_at(step, batch_size=23, seed=seed)[1]) for step in range(3) for seed in range(3)}
    assert len(orders) == 9
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_indices__result_belongs_to_the_caller() -> None:
    _, indices = batch_indices(step=0, num_samples=8, batch_size=8, seed=0)
    indices.zero_()
    assert sorted(batch_indices(step=0, num_samples=8, batch_size=8, seed=0)[1].tolist()) == list(range(8))


def test_batch_indices__every_sample_is_dropped_equally_often() -> None:
    counts = np.zeros(10)
    for step in range(600):
        counts[indices_at(step, num_samples=10, batch_size=9)[1]] += 1
    assert counts.sum() == 5400
    assert counts.min() > 500  # a sample is missing from 60 epochs on average


def test_steps_per_epoch__batch_larger_than_the_data() -> None:
    assert steps_per_epoch(num_samples=5, batch_size=5) == 1
    with pytest.raises(DataError, match="batch of 6 is larger than the 5") as caught:
        steps_per_epoch(num_samples=5, batch_size=6)
    assert caught.value.hint is not None
    assert "--batch-size 2" in caught.value.hint
    with pytest.raises(DataError, match="nothing to train on: training images: 1"):
        steps_per_epoch(num_samples=1, batch_size=2)
    with pytest.raises(ValueError, match="at least 1"):
        steps_per_epoch(num_samples=5, batch_size=0)


def read_only_map(tmp_path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    content = np.random.default_rng(0).integers(0, 256, size=(20, 3, 4, 4), dtype=np.uint8)
    content.tofile(tmp_path / "images.u8")
    return np.memmap(tmp_path / "images.u8", dtype=np.uint8, mode="r", shape=content.shape)


@pytest.mark.parametrize("shape", [(7,), (2, 5), (1, 2, 3), (0,)])
def test_gather__equals_indexing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = read_only_map(tmp_path)
    held = DeviceImages(images, device="cpu")
    indices = torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(0))
    gathered = held.gather(indices)
    assert gathered.dtype == torch.uint8
    np.testing.assert_array_equal(gathered.numpy(), images[indices.numpy()])
    assert len(held) == 20


def test_gather__result_may_be_changed_without_changing_the_file(tmp_path: Path) -> None:
    images = read_only_map(tmp_path)
    held = DeviceImages(images, device="cpu")
    held.gather(torch.tensor([3])).zero_()
    assert images[3].any()


def test_gather__index_out_of_range_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        DeviceImages(read_only_map(tmp_path), device="cpu").gather(torch.tensor([20]))


def test_fits_on_device__cpu_needs_no_copy() -> None:
    assert not fits_on_device(1, device=torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("memory_fraction", [0.0, 0.5])
def test_gather__on_the_accelerator_equals_indexing(tmp_path: Path, memory_fraction: float) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images = read_only_map(tmp_path)
    held = DeviceImages(images, device="cuda", memory_fraction=memory_fraction)
    assert held.images.is_cuda == (memory_fraction > 0)
    indices = torch.tensor([[3, 1], [19, 0]])
    for given_indices in (indices, indices.cuda()):
        np.testing.assert_array_equal(held.gather(given_indices).cpu().numpy(), images[indices.numpy()])


LONG_TAIL = np.random.default_rng(0).permutation(np.repeat(np.arange(14), [1] * 6 + [2, 3, 4, 5, 8, 9, 20, 30]))


def balanced_at(step: int, labels: np.ndarray = LONG_TAIL, *, batch_size: int = 16, seed: int = 0) -> tuple[int, list]:  # type: ignore[type-arg]
    round_, indices = balanced_batch_indices(
        step=step, labels=labels, batch_size=batch_size, images_per_class=4, seed=seed
    )
    assert indices.dtype == torch.int64
    return round_, indices.tolist()


def test_balanced_batch_indices__p_classes_with_k_images() -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 7))
    for step in range(40):
        _, counts = np.unique(labels[balanced_at(step, labels)[1]], return_counts=True)
        assert counts.tolist() == [4, 4, 4, 4]


def test_balanced_batch_indices__singletons_leave_the_batch_whole() -> None:
    rounds: dict[int, list[int]] = {}
    for step in range(60):
        round_, indices = balanced_at(step)
        assert len(set(indices)) == 16
        rounds.setdefault(round_, []).extend(indices)
    assert {len(indices) for indices in rounds.values()} == {32}  # of 6 + 2 + 3 + 6 x 4 = 35
    for indices in rounds.values():
        assert len(set(indices)) == 32
        assert np.bincount(LONG_TAIL[indices]).max() <= 4


def test_balanced_batch_indices__every_image_is_seen_and_classes_equally_often() -> None:
    seen = np.zeros(len(LONG_TAIL))
    for step in range(400):
        seen[balanced_at(step)[1]] += 1
    per_class = np.bincount(LONG_TAIL, seen)
    assert seen.min() > 10
    assert per_class[8:].min() > 0.9 * per_class[8:].max()  # 4 images or 30: as often
    first = [index for step in range(4) for index in balanced_at(step)[1] if LONG_TAIL[index] == 12]
    assert len(set(first)) == len(first)  # a class is gone through before an image comes again


def test_balanced_batch_indices__pure_function_of_step_and_seed() -> None:
    forward = [balanced_at(step) for step in range(20)]
    assert forward == [balanced_at(step) for step in reversed(range(20))][::-1]
    assert len({tuple(balanced_at(step, seed=seed)[1]) for step in range(4) for seed in range(4)}) == 16


def test_balanced_batch_indices__unlabeled_are_classes_of_one_and_too_few_refused() -> None:
    labels = np.array([-1] * 12 + [0] * 20)
    assert (labels[balanced_at(0, labels)[1]] == -1).sum() == 12
    with pytest.raises(DataError, match="10 classes with up to 4 images each do not fill a batch of 64") as caught:
        balanced_at(0, np.repeat(np.arange(10), 50), batch_size=64)
    assert caught.value.hint is not None
    assert "--batch-size 40" in caught.value.hint

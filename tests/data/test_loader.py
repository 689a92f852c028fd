from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from contrastive_cli.core.errors import DataError
from contrastive_cli.data.loader import DeviceImages, batch_indices, fits_on_device, steps_per_epoch


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

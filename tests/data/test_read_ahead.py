"""What is read ahead is what would have been gathered, whatever is asked for, and it is read while others compute."""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from contrastive_cli.data.loader import DeviceImages, announcer
from contrastive_cli.data.read_ahead import ReadAhead

NUM_IMAGES, BATCH = 40, 12
HALVES = (slice(0, 6), slice(6, 12))


@pytest.fixture
def images(tmp_path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 3, 5, 5), dtype=np.uint8)
    pixels.tofile(tmp_path / "images.bin")
    return np.memmap(tmp_path / "images.bin", dtype=np.uint8, mode="r", shape=pixels.shape)


def rows_of(step: int, piece: slice) -> Tensor:
    order = torch.randperm(NUM_IMAGES, generator=torch.Generator().manual_seed(step))
    return order[:BATCH][piece]


def two_rows_of(step: int, piece: slice) -> Tensor:
    return torch.stack([rows_of(step, piece), rows_of(step + 100, piece)])


@pytest.mark.parametrize("rows", [rows_of, two_rows_of])
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param([(step, slice(0, 12)) for step in range(6)], id="whole-batches"),
        pytest.param([(step, half) for step in range(4) for _ in range(2) for half in HALVES], id="two-passes"),
        pytest.param([(step, half) for step in (5, 3, 3, 9, 9, 9) for half in HALVES], id="steps-that-jump"),
        pytest.param([(0, HALVES[0]), (1, HALVES[1]), (2, slice(0, 12)), (3, HALVES[0])], id="parts-that-change"),
        pytest.param([(7, HALVES[0])] * 3, id="the-same-again"),
    ],
)
def test_pixels__equal_indexing(
    images: np.memmap[tuple[int, ...], np.dtype[np.uint8]],
    asked: list[tuple[int, slice]],
    rows: Callable[[int, slice], Tensor],
) -> None:
    reader = ReadAhead(DeviceImages(images, device="cpu"), rows)
    for step, piece in asked:
        got = reader.pixels(step, piece)
        assert got.dtype == torch.uint8
        np.testing.assert_array_equal(got.numpy(), images[rows(step, piece).numpy()])


def test_pixels__gray_images_stand_for_all_channels(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 1, 5, 5), dtype=np.uint8)
    reader = ReadAhead(DeviceImages(gray, device="cpu", channels=3), rows_of)
    for step in range(4):
        got = reader.pixels(step, HALVES[0]).numpy()
        np.testing.assert_array_equal(got, np.repeat(gray[rows_of(step, HALVES[0]).numpy()], 3, axis=1))


def test_pixels__a_step_does_not_wait_for_what_was_read_while_it_was_computed(
    images: np.memmap[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    slow_disk, computing = 0.2, 0.4

    class Slow(DeviceImages):
        def fetched(self, indices: Tensor) -> Tensor:
            assert threading.current_thread() is not threading.main_thread()
            time.sleep(slow_disk)
            return super().fetched(indices)

    reader = ReadAhead(Slow(images, device="cpu"), rows_of)
    waits = []
    for step in range(4):
        started = time.monotonic()
        got = reader.pixels(step, slice(0, BATCH))
        waits.append(time.monotonic() - started)
        np.testing.assert_array_equal(got.numpy(), images[rows_of(step, slice(0, BATCH)).numpy()])
        time.sleep(computing)
    assert max(waits[2:]) < slow_disk / 2, waits


def test_pixels__a_row_that_is_not_there_is_an_error(images: np.memmap[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    reader = ReadAhead(
        DeviceImages(images, device="cpu"), lambda step, _: torch.tensor([NUM_IMAGES if step > 1 else 0])
    )
    reader.pixels(0, slice(0, 1))
    reader.pixels(1, slice(0, 1))
    with pytest.raises(IndexError):
        reader.pixels(2, slice(0, 1))


def test_announcer__asks_for_the_pages_of_the_rows(tmp_path: Path) -> None:
    """Of an array that begins within a file and within a page, as rows of a cache may."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 40, 40), dtype=np.uint8)
    (tmp_path / "images.bin").write_bytes(b"x" * 100 + pixels.tobytes())
    mapped = np.memmap(tmp_path / "images.bin", dtype=np.uint8, mode="r", offset=100, shape=pixels.shape)[10:]
    asked: list[tuple[int, int]] = []

    class Noting(mmap.mmap):
        def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
            assert option == mmap.MADV_WILLNEED
            super().madvise(option, start, length)
            asked.append((start, length))

    with (tmp_path / "images.bin").open("rb") as file:
        whole = np.frombuffer(Noting(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    own = whole[100:].reshape(pixels.shape)[10:]
    announcer(own)(torch.tensor([3, 39, -1, 40]))
    row = pixels[0].nbytes
    assert [start % mmap.PAGESIZE for start, _ in asked] == [0, 0]
    for (start, length), place in zip(asked, (13, 49), strict=True):
        assert start <= 100 + place * row < start + mmap.PAGESIZE
        assert start + length == 100 + (place + 1) * row
    source = DeviceImages(mapped, device="cpu")
    rows = torch.tensor([[39, 0], [7, 7]])
    np.testing.assert_array_equal(source.gather(rows).numpy(), pixels[10:][rows.numpy()])
    np.testing.assert_array_equal(source.placed(source.fetched(rows), rows).numpy(), pixels[10:][rows.numpy()])

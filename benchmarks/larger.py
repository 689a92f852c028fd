"""Training on a file of pixels that is larger than the memory, beside training on images that stay in it.

    python -m benchmarks.larger --file FILE [--gigabytes 10 --limit 1 --encoder resnet18 --size 96 --batch-size 64]

FILE is made of random bytes where it does not exist, since the time does not depend on them. The process puts itself
under a limit of `--limit` GB, in which what the kernel keeps of the file counts (cgroup of version 1 or 2, which needs
root). Three trainings take their steps in turns: on the first images only, which stay in memory; on all; and on all
without reading ahead. Then the same without an encoder: how many images come per second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.step import simclr
from contrastive_cli.core.types import Batch, Progress
from contrastive_cli.data.loader import DeviceImages, batch_indices
from contrastive_cli.data.read_ahead import ReadAhead
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.engine.allocator import keep_freed_memory
from contrastive_cli.engine.device import choose_device
from contrastive_cli.engine.precision import autocast, choose_precision
from contrastive_cli.views.augment import make_views
from contrastive_cli.views.recipe import RECIPES

RESIDENT_IMAGES = 2000
WARM_UP = 3
PIECE = 64 * 1024**2
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the images of a step come from."""

    name: str
    pixels: Callable[[int, slice], Tensor]


def write_pixels(file: Path, num_bytes: int) -> None:
    """Random bytes, written to the disk."""
    generator = np.random.default_rng(0)
    with file.open("wb") as out:
        for start in range(0, num_bytes, PIECE):
            out.write(generator.bytes(min(PIECE, num_bytes - start)))
        out.flush()
        os.fsync(out.fileno())


def forget(file: Path) -> None:
    """Let the kernel drop what it keeps of the file."""
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def limit_memory(num_bytes: int) -> None:
    """Put this process into a group of its own with so much memory, the kernel's copies of files included."""
    for root, limit in zip(GROUPS, ("memory.limit_in_bytes", "memory.max"), strict=True):
        group = root / f"clr-{os.getpid()}"
        if (root / "cgroup.procs").exists():
            group.mkdir()
            (group / limit).write_text(str(num_bytes))
            (group / "cgroup.procs").write_text(str(os.getpid()))
            return
    raise SystemExit("there are no groups of control here")


def sources(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], *, batch_size: int) -> list[Source]:
    """The three that are compared."""
    device = choose_device("auto")

    def rows_of(count: int) -> Callable[[int, slice], Tensor]:
        return lambda step, piece: batch_indices(step=step, num_samples=count, batch_size=batch_size, seed=0)[1][piece]

    on_host = DeviceImages(images, device=device, memory_fraction=0)
    every, first = rows_of(len(images)), rows_of(RESIDENT_IMAGES)
    in_memory = DeviceImages(np.array(images[:RESIDENT_IMAGES]), device=device, memory_fraction=0)
    return [
        Source("in memory", ReadAhead(in_memory, first).pixels),
        Source("larger, read ahead", ReadAhead(on_host, every).pixels),
        Source("larger, read when asked", lambda step, piece: on_host.gather(every(step + 10**5, piece))),
    ]


def trainer(encoder: str, *, size: int, batch_size: int) -> Callable[[int, Source], None]:
    """A step of SimCLR on the images of a source."""
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    method, optimizer = simclr(encoder, size=size, device=device)
    recipe = RECIPES["simclr"]

    def step(number: int, source: Source) -> None:
        pixels = source.pixels(number, slice(0, batch_size))
        indices = torch.arange(batch_size, device=device)
        views = make_views(
            pixels.expand(2, *pixels.shape),
            recipes=[recipe, recipe],
            indices=indices,
            size=size,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            seed=0,
            epoch=number,
        )
        optimizer.zero_grad(set_to_none=True)
        backward(
            method,
            Batch(views=(views,), indices=indices).part,
            Progress(step=0, total_steps=1),
            batch_size=batch_size,
            micro_batch_size=None,
            autocast=lambda: autocast(device, precision),
        )
        optimizer.step()

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--limit", type=float, default=1, help="GB; 0 for none")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    keep_freed_memory()
    size, batch_size = options.size, options.batch_size
    count = int(options.gigabytes * 1e9) // (3 * size * size)
    if not options.file.exists():
        write_pixels(options.file, count * 3 * size * size)
    forget(options.file)
    if options.limit:
        limit_memory(int(options.limit * 1e9))
    images = np.memmap(options.file, np.uint8, mode="r", shape=(count, 3, size, size))
    print(f"{count} images of {size} px, {images.nbytes / 1e9:.1f} GB, under {options.limit} GB; {options.encoder}")

    compared, step = sources(images, batch_size=batch_size), trainer(options.encoder, size=size, batch_size=batch_size)
    seconds: dict[str, list[float]] = {source.name: [] for source in compared}
    for number in range(WARM_UP + options.rounds):
        for source in compared:
            started = time.perf_counter()
            step(number, source)
            seconds[source.name].append(time.perf_counter() - started)
    rates = {name: batch_size / statistics.mean(times[WARM_UP:]) for name, times in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:24s} {rate:8.1f} images/s trained, {100 * rate / rates['in memory']:.1f} % of in memory")

    for source in compared:
        started = time.perf_counter()
        for number in range(options.rounds):
            source.pixels(10**4 + number, slice(0, batch_size))
        rate = options.rounds * batch_size / (time.perf_counter() - started)
        print(f"{source.name:24s} {rate:8.1f} images/s gathered, {rate * 3 * size * size / 1e6:.0f} MB/s")


if __name__ == "__main__":
    main()

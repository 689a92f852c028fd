"""Peak memory of one SimCLR step over the batch size, in micro-batches that keep all negatives.

    python -m benchmarks.memory [--batch-sizes 512 2048 8192 16384 --micro-batch-size 128]

Each figure is the peak of a process of its own, the 150 MB of 50,000 images of 32 px and torch itself included. Random
bytes stand for images, since neither time nor memory depends on them.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

from benchmarks.record import Row, record
from contrastive_cli.core.types import Batch, ImageFacts, Progress
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.engine.device import choose_device
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.precision import autocast, choose_precision
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.views.augment import make_views
from contrastive_cli.views.recipe import RECIPES

NUM_IMAGES, SIZE = 50_000, 32


def main() -> None:
    """Print one line per batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[512, 2048, 8192, 16384])
    parser.add_argument("--micro-batch-size", type=int, default=128)
    parser.add_argument("--encoder", default="resnet9")
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(*step(options.batch_sizes[0], options.micro_batch_size, encoder_name=options.encoder))
        return
    print(f"{options.encoder}, micro-batches of {options.micro_batch_size}, torch {torch.__version__}")
    print(f"{'batch':>7} {'negatives':>10} {'peak MB':>8} {'seconds':>8} {'images/s':>9}")
    rows = []
    for size in options.batch_sizes:
        command = [sys.executable, "-m", "benchmarks.memory", "--one", "--batch-sizes", str(size)]
        command += ["--micro-batch-size", str(options.micro_batch_size), "--encoder", options.encoder]
        peak, seconds = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        print(f"{size:>7} {2 * size - 2:>10} {peak:>8.0f} {seconds:>8.1f} {size / seconds:>9.0f}", flush=True)
        what = f"peak memory of a step of {size:,} images in micro-batches of {options.micro_batch_size}"
        rows.append(Row(what=f"{what}, {2 * size - 2:,} negatives an anchor", clr=peak, unit="MB"))
    if options.record:
        record("memory", rows, threads=torch.get_num_threads())


def step(batch_size: int, micro_batch_size: int, *, encoder_name: str) -> tuple[float, float]:
    """Peak megabytes of this process after one optimizer step, and the seconds that it took."""
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name=encoder_name), channels=3, size=SIZE)
    facts = ImageFacts(count=NUM_IMAGES, channels=3, size=SIZE)
    method = SimCLR(SimCLRConfig(), encoder=encoder, images=facts).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(method, OptimConfig(), lr=1e-3)
    pixels = torch.randint(0, 256, (NUM_IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)
    order = torch.randperm(NUM_IMAGES)

    def part_of(piece: slice) -> Batch:
        indices = order[:batch_size][piece]
        images = pixels[indices].to(device)
        views = make_views(
            images.expand(2, *images.shape),
            recipes=[RECIPES["simclr-small"]] * 2,
            indices=indices.to(device),
            size=SIZE,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            seed=0,
            epoch=0,
        )
        return Batch(views=(views,), indices=indices.to(device))

    started = time.perf_counter()
    backward(
        method,
        part_of,
        Progress(step=0, total_steps=1),
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        autocast=lambda: autocast(device, precision),
    )
    optimizer.step()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6), seconds


if __name__ == "__main__":
    main()

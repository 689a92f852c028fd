"""What a training step costs beside the bare encoder and projector, forward and backward, in one run.

    python -m benchmarks.step [--encoder resnet9 --batch-size 256 --rounds 15]

Random bytes stand for images, since the time does not depend on them. Parts are measured in turns, so a noisy machine
disturbs all alike; the medians' ratios are what counts.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.record import Row, record
from contrastive_cli.core.types import Batch, ImageFacts, Progress
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.engine.allocator import keep_freed_memory
from contrastive_cli.engine.device import choose_device
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.precision import autocast, choose_precision
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.views.augment import make_views
from contrastive_cli.views.recipe import RECIPES


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet9")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--recipe", default="simclr", choices=sorted(RECIPES))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    arguments = parser.parse_args()
    keep_freed_memory()  # as a training does, here for both sides
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    method, optimizer = simclr(arguments.encoder, size=arguments.size, device=device)
    num_images, size = arguments.batch_size, arguments.size
    pixels = torch.randint(0, 256, (num_images, 3, size, size), dtype=torch.uint8, device=device)
    indices = torch.arange(num_images, device=device)
    recipe = RECIPES[arguments.recipe]

    def views() -> torch.Tensor:
        return make_views(
            pixels.expand(2, *pixels.shape),
            recipes=[recipe, recipe],
            indices=indices,
            size=size,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            seed=0,
            epoch=0,
        )

    made = views()
    cotangent = torch.randn(2, num_images, 128, device=device)

    def bare() -> None:
        method.zero_grad(set_to_none=True)
        with autocast(device, precision):
            projections = method.project((made,))
        projections.backward(cotangent.to(projections.dtype))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        batch = Batch(views=(views(),), indices=indices)
        progress = Progress(step=0, total_steps=1)
        backward(
            method,
            batch.part,
            progress,
            batch_size=num_images,
            micro_batch_size=None,
            autocast=lambda: autocast(device, precision),
        )
        optimizer.step()

    seconds = in_turns({"bare": bare, "views": lambda: void(views()), "step": step}, rounds=arguments.rounds)
    num_views = 2 * num_images
    machine = f"{platform.processor() or platform.machine()}, {device}, {torch.get_num_threads()} threads"
    print(f"{arguments.encoder}, {num_views} views of {size} px, {precision}; {machine}, torch {torch.__version__}")
    for name, value in seconds.items():
        print(
            f"{name:6s} {1000 * value:8.1f} ms  {num_views / value:9.0f} views/s  {value / seconds['bare']:.3f} of bare"
        )
    print(f"views take {100 * seconds['views'] / seconds['step']:.1f} % of the step")
    if arguments.record:
        rates = {name: num_views / value for name, value in seconds.items()}
        common: dict[str, Any] = {"unit": "views/s", "rounds": arguments.rounds}
        what = f"{arguments.encoder}, {num_views} views of {size} px, recipe {arguments.recipe}, {precision}"
        rows = [
            Row(
                what=f"SimCLR step: {what}",
                clr=rates["step"],
                peer="bare encoder and projector",
                theirs=rates["bare"],
                **common,
            ),
            Row(what=f"views in that step: {what}", clr=rates["views"], **common),
        ]
        record("step", rows, threads=torch.get_num_threads())


def simclr(encoder: str, *, size: int, device: torch.device) -> tuple[SimCLR, torch.optim.Optimizer]:
    """SimCLR with fresh weights on an encoder for colored images, and its optimizer."""
    torch.manual_seed(0)
    net = build_encoder(EncoderConfig(name=encoder), channels=3, size=size)
    facts = ImageFacts(count=50_000, channels=3, size=size)
    method = SimCLR(SimCLRConfig(), encoder=net, images=facts).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return method, build_optimizer(method, OptimConfig(), lr=1e-3)


def in_turns(parts: dict[str, Callable[[], None]], *, rounds: int) -> dict[str, float]:
    """Median seconds of each part, run in turns after two rounds of warming up."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 2):
        for name, part in parts.items():
            started = time.perf_counter()
            part()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def void(_: torch.Tensor) -> None:
    """Forget a value."""


if __name__ == "__main__":
    main()

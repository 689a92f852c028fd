"""What one GPU does in ten minutes: training steps, their parts, the loss at many rows, and CIFAR-10 from scratch.

    python -m benchmarks.gpu --data-dir DIR                                  (ten minutes, the usual parts)
    python -m benchmarks.gpu commands optimizers --minutes 4                 (does clr work on the card? no figures)
    python -m benchmarks.gpu simclr --data-dir DIR --minutes 12              (one training: when does kNN reach 90 %?)

Needs torch, numpy, pydantic, pyyaml, filelock and pillow, for lightly's step lightly, for commands all that clr needs,
and no network. DIR holds CIFAR-10 as {train,test}/<class>/*; without it random bytes stand for images and nothing is
trained. The parts are

- speed: steps, with what torch may compile and cuDNN may search for; the loss at many rows;
- optimizers: a step by each of them, and the kernels that take longest;
- commands: clr's own, each in a process;
- the trainings simclr, muon, fastsiam, sigreg, vicreg, moco and supcon, which share the minutes.

Speed, simclr, fastsiam and sigreg are done where none is named. Each line is printed as soon as it is known, so that an
end of the lease loses only what was not reached. A training is judged by its neighbors five times on the way, its clock
stopped, so the lines say when an accuracy was reached. On a CPU it takes small sizes and proves only that it runs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.gpu_commands import commands
from benchmarks.gpu_training import TRAININGS, Bench, train
from contrastive_cli.core.types import Batch, Method, Progress
from contrastive_cli.engine.device import choose_device
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.losses.contrastive import nt_xent
from contrastive_cli.models.encoder import encoder_of

USUAL = ["speed", "simclr", "fastsiam", "sigreg"]
PARTS = ["speed", "optimizers", "commands", *TRAININGS]
STEPS = (
    ("resnet18", 32, 1024),
    ("resnet18", 32, 512),
    ("resnet50", 32, 512),
    ("resnet18", 224, 256),
    ("resnet50", 224, 128),
)
SMALL_STEPS = (("resnet18", 32, 16), ("resnet18", 64, 8))


@contextmanager
def section(name: str) -> Iterator[None]:
    """A failed section is said and does not end the others."""
    try:
        yield
    except (RuntimeError, ImportError, ValueError) as error:  # out of memory and failed compilation are RuntimeErrors
        print(f"{name}: failed: {' '.join(str(error).split())[:200]}", flush=True)


def steps(bench: Bench, encoder: str, size: int, batch_size: int, *, compiled: tuple[str, ...]) -> float:
    """Views per second of a whole step, and the shares of views and loss in it.

    `compiled` are parts of the step that torch compiles; "search" is cuDNN's, for the fastest convolution of each size.
    """
    torch.backends.cudnn.benchmark = "search" in compiled
    method = bench.method("simclr", encoder=encoder, size=size)
    if "encoder" in compiled:
        encoder_of(method).compile()
    make = views_of(bench, batch_size, size=size, compiled="views" in compiled)
    projections = torch.randn(2, batch_size, 128, device=bench.device, requires_grad=True)
    rounds = 3 if bench.small else 20
    whole = bench.seconds(step_of(bench, method, OptimConfig(), make), rounds=rounds)
    views = bench.seconds(make, rounds=rounds)
    loss = bench.seconds(lambda: nt_xent(projections[0], projections[1], temperature=0.5).backward(), rounds=rounds)
    shares = f"views {100 * views / whole:.1f} %, loss {100 * loss / whole:.1f} % of the step"
    kind = f"with {' and '.join(compiled)}" if compiled else "eager"
    name = "resnet9" if bench.small else encoder
    print(
        f"step, {name} at {size} px, batch {batch_size}, {kind}: {2 * batch_size / whole:,.0f} views/s; {shares}",
        flush=True,
    )
    return 2 * batch_size / whole


def step_of(bench: Bench, method: Method, config: OptimConfig, make: Callable[[], Batch]) -> Callable[[], None]:
    """What does a step with the batches that are made."""
    optimizer = build_optimizer(method, config, lr=1e-3, precision=bench.precision)
    return lambda: bench.step(method, optimizer, make(), Progress(step=0, total_steps=1))


def views_of(bench: Bench, batch_size: int, *, size: int, compiled: bool = False) -> Callable[[], Batch]:
    """What makes two views of each of some random pictures, the same ones every time."""
    pixels = torch.randint(0, 256, (batch_size, 3, size, size), dtype=torch.uint8, device=bench.device)
    indices = torch.arange(batch_size, device=bench.device)
    make = torch.compile(bench.batch) if compiled else bench.batch
    return lambda: make(pixels, indices, count=2, size=size, epoch=0, step=0)


def optimizer_steps(bench: Bench, batch_size: int) -> None:
    """Steps of ResNet-18 at 32 px in a row, by each optimizer: where launching takes as long, the processor is slow."""
    rounds = 2 if bench.small else 30
    make = views_of(bench, batch_size, size=32)
    for name in ("sgd", "adamw", "lars", "muon"):
        step = step_of(bench, bench.method("simclr"), OptimConfig.model_validate({"name": name}), make)
        for _ in range(3):
            step()
        bench.synchronize()
        started = time.perf_counter()
        for _ in range(rounds):
            step()
        launched = (time.perf_counter() - started) / rounds
        bench.synchronize()
        whole = (time.perf_counter() - started) / rounds
        rate = 2 * batch_size / whole
        print(
            f"{name}, batch {batch_size}: {1000 * whole:.1f} ms, launched in {1000 * launched:.1f} ms, "
            f"{rate:,.0f} views/s",
            flush=True,
        )
    with torch.profiler.profile() as profile:
        step()
        bench.synchronize()
    column = "self_cpu_time_total" if bench.small else "self_cuda_time_total"
    print(profile.key_averages().table(sort_by=column, row_limit=5 if bench.small else 30, max_name_column_width=60))


def lightly_steps(bench: Bench, batch_size: int) -> None:
    """Views per second of the loop of lightly's tutorial: views from workers, fp32, ResNet-18 with its own stem."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from torchvision.models import resnet18

    from benchmarks.cifar10 import lightly_views

    warm_up, rounds = (1, 2) if bench.small else (5, 30)
    images = np.random.default_rng(0).integers(0, 256, ((warm_up + rounds) * batch_size, 3, 32, 32), dtype=np.uint8)
    backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten()).to(bench.device)
    head, loss_of = SimCLRProjectionHead(512, 512, 128).to(bench.device), NTXentLoss()
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.06)
    workers = 0 if bench.small else os.cpu_count() or 1
    loader = DataLoader(lightly_views(images), batch_size=batch_size, num_workers=workers, pin_memory=not bench.small)
    started = 0.0
    for number, views in enumerate(loader):
        if number == warm_up:
            bench.synchronize()
            started = time.perf_counter()
        first, second = (view.to(bench.device, non_blocking=True) for view in views)
        loss = loss_of(head(backbone(first)), head(backbone(second)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bench.synchronize()
    rate = 2 * batch_size * rounds / (time.perf_counter() - started)
    print(f"step, batch {batch_size}, lightly's loop, {workers} workers: {rate:,.0f} views/s", flush=True)


def loss_at(bench: Bench, rows: int) -> None:
    """Seconds and memory of the loss, forward and backward."""
    z = torch.randn(2, rows // 2, 128, device=bench.device, requires_grad=True)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = bench.seconds(lambda: nt_xent(z[0], z[1], temperature=0.1).backward(), rounds=1)
    peak = f", {torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if bench.device.type == "cuda" else ""
    print(f"loss of {rows} rows x 128: {1000 * seconds:.1f} ms{peak}", flush=True)


def main() -> None:
    """Print what is measured, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=USUAL, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--minutes", type=float, default=9, help="of all parts together; the trainings share the rest")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    started = time.perf_counter()
    bench = Bench(small=choose_device("auto").type == "cpu")
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "small sizes, to prove that it runs"
    print(f"{bench.device}, {name}, {bench.precision}, torch {torch.__version__}", flush=True)
    if "commands" in arguments.parts:
        commands(small=bench.small)
    if "optimizers" in arguments.parts:
        with section("optimizers"):
            optimizer_steps(bench, 16 if bench.small else 512)
    compiled = speed(bench) if "speed" in arguments.parts else False
    trainings = [part for part in arguments.parts if part in TRAININGS] if arguments.data_dir is not None else []
    for number, part in enumerate(trainings):
        left = arguments.minutes - (time.perf_counter() - started) / 60
        minutes = max(0.05, left / (len(trainings) - number) - 0.5)
        with section(f"{part} on CIFAR-10"):
            size = 32 if bench.small else 1024
            train(bench, arguments.data_dir, training=part, minutes=minutes, batch_size=size, compiled=compiled)


def speed(bench: Bench) -> bool:
    """Steps and losses of all sizes; whether a compiled encoder made the step of ResNet-18 at 32 px faster."""
    rates: dict[tuple[str, ...], float] = {}
    for encoder, size, batch_size in SMALL_STEPS if bench.small else STEPS:
        usual = (encoder, size, batch_size) == STEPS[0]
        kinds = ((), ("search",), ("encoder",), ("encoder", "views"))
        for compiled in kinds if usual else kinds[:2]:  # to compile takes long
            with section(f"step, {encoder} at {size} px, batch {batch_size}, compiled: {compiled}"):
                rate = steps(bench, encoder, size, batch_size, compiled=compiled)
                rates |= {compiled: rate} if usual else {}
    torch.backends.cudnn.benchmark = False
    with section("step, lightly's loop"):
        lightly_steps(bench, 16 if bench.small else 512)
    for rows in (256,) if bench.small else (8192, 131_072, 1_048_576):
        with section(f"loss of {rows} rows"):
            loss_at(bench, rows)
    return rates.get(("encoder",), 0.0) > rates.get((), 0.0)


if __name__ == "__main__":
    main()

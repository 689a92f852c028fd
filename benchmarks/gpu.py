"""What one GPU does in a short lease: training steps, their parts, the loss at many rows, and CIFAR-10 from scratch.

    python -m benchmarks.gpu [speed simclr supcon] [--data-dir DIR --minutes 9]

Needs torch, numpy, pydantic, pyyaml, filelock and pillow, for lightly's step lightly, and no network. DIR holds
CIFAR-10 as {train,test}/<class>/*; without it random bytes stand for images and nothing is trained. Each line is
printed as soon as it is known, so that an end of the lease loses only what was not reached. A training is judged by its
neighbors five times on the way, its clock stopped, so the lines say when an accuracy was reached. On a CPU it takes
small sizes and proves only that it runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from contrastive_cli.core.choices import Precision
from contrastive_cli.core.types import Batch, ImageFacts, Progress
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.embeddings.probes.knn_vote import knn_vote
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.engine.device import choose_device
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.precision import autocast, choose_precision
from contrastive_cli.engine.schedule import warmup_cosine
from contrastive_cli.losses.contrastive import nt_xent
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig
from contrastive_cli.methods.supcon import SupCon, SupConConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.views.augment import make_views, to_input
from contrastive_cli.views.recipe import RECIPES

PARTS = ["speed", "simclr", "supcon"]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Bench:
    """The device, how exactly it computes, and the sizes that fit it."""

    def __init__(self, *, small: bool) -> None:
        self.device = choose_device("auto")
        self.precision: Precision = choose_precision("auto", self.device)
        self.small = small
        self.encoder = (
            EncoderConfig(name="resnet9", width=4, embedding_dim=16) if small else EncoderConfig(name="resnet18")
        )

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def seconds(self, work: Callable[[], object], *, rounds: int) -> float:
        """Median time of the work, after two rounds of warming up."""
        times = []
        for _ in range(rounds + 2):
            self.synchronize()
            started = time.perf_counter()
            work()
            self.synchronize()
            times.append(time.perf_counter() - started)
        return statistics.median(times[2:])

    def method(self, *, labels: bool = False) -> SimCLR | SupCon:
        """SimCLR or SupCon with fresh weights."""
        torch.manual_seed(0)
        encoder = build_encoder(self.encoder, channels=3, size=32)
        facts = ImageFacts(count=50_000, channels=3, size=32, num_classes=10)
        method = (
            SupCon(SupConConfig(), encoder=encoder, images=facts)
            if labels
            else SimCLR(SimCLRConfig(temperature=0.5), encoder=encoder, images=facts)
        )
        return method.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def views(self, pixels: Tensor, indices: Tensor, *, epoch: int) -> Tensor:
        """Two views of the recipe for small images."""
        both = pixels.expand(2, *pixels.shape)
        recipes = [RECIPES["simclr-small"]] * 2
        return make_views(both, recipes=recipes, indices=indices, size=32, mean=MEAN, std=STD, seed=0, epoch=epoch)


@contextmanager
def section(name: str) -> Iterator[None]:
    """A failed section is said and does not end the others."""
    try:
        yield
    except (RuntimeError, ImportError, ValueError) as error:  # out of memory and failed compilation are RuntimeErrors
        print(f"{name}: failed: {' '.join(str(error).split())[:200]}", flush=True)


def steps(bench: Bench, batch_size: int, *, compiled: tuple[str, ...]) -> float:
    """Views per second of a whole step, and the shares of views and loss in it; `compiled` are parts of the step."""
    method, make = bench.method(), bench.views
    if "encoder" in compiled:
        method.encoder.compile()
    if "views" in compiled:
        make = torch.compile(bench.views)
    optimizer = build_optimizer(method, OptimConfig(), lr=1e-3)
    pixels = torch.randint(0, 256, (batch_size, 3, 32, 32), dtype=torch.uint8, device=bench.device)
    indices = torch.arange(batch_size, device=bench.device)
    projections = torch.randn(2, batch_size, 128, device=bench.device, requires_grad=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(
            method,
            Batch(views=(make(pixels, indices, epoch=0),), indices=indices).part,
            Progress(step=0, total_steps=1),
            batch_size=batch_size,
            micro_batch_size=None,
            autocast=lambda: autocast(bench.device, bench.precision),
        )
        optimizer.step()

    rounds = 3 if bench.small else 20
    whole = bench.seconds(step, rounds=rounds)
    views = bench.seconds(lambda: make(pixels, indices, epoch=0), rounds=rounds)
    loss = bench.seconds(lambda: nt_xent(projections[0], projections[1], temperature=0.5).backward(), rounds=rounds)
    shares = f"views {100 * views / whole:.1f} %, loss {100 * loss / whole:.1f} % of the step"
    kind = f"compiled {' and '.join(compiled)}" if compiled else "eager"
    print(f"step, batch {batch_size}, {kind}: {2 * batch_size / whole:,.0f} views/s; {shares}", flush=True)
    return 2 * batch_size / whole


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


def train(
    bench: Bench, data_dir: Path, *, method: SimCLR | SupCon, minutes: float, batch_size: int, compiled: bool
) -> None:
    """A training on CIFAR-10 for the minutes; accuracy of frozen features on the test split, kNN also on the way."""
    images = {split: open_dataset("cifar10", split=split, data_dir=data_dir, size=32) for split in ("train", "test")}
    pixels = {split: torch.from_numpy(part.images[:]).to(bench.device) for split, part in images.items()}
    labels = {split: torch.from_numpy(part.labels).to(bench.device) for split, part in images.items()}
    encoder = method.encoder
    if compiled:
        encoder.compile()  # training alone: `embed` sees other shapes, and pays for them once
    optimizer = build_optimizer(method, OptimConfig(name="sgd", momentum=0.9, weight_decay=5e-4), lr=0.0)
    peak, warm_up, timed, step, total = 0.06 * batch_size / 256, 5, 25, 0, 10**9
    name, checks, spent, started = type(method).__name__, [0.2, 0.4, 0.6, 0.8, 1.0], 0.0, time.perf_counter()
    while step < total:
        if step == warm_up:  # what compiles, has compiled
            bench.synchronize()
            warm = time.perf_counter()
        if step == timed:  # the steps that fit are known from here on, so that the schedule is a function of the step
            bench.synchronize()
            total = max(timed + 1, int((timed - warm_up) * 60 * minutes / (time.perf_counter() - warm)))
        epoch, place = divmod(step, len(pixels["train"]) // batch_size)
        order = torch.randperm(len(pixels["train"]), generator=torch.Generator().manual_seed(epoch)).to(bench.device)
        indices = order[place * batch_size : (place + 1) * batch_size]
        rate = warmup_cosine(step, total_steps=total, warmup_steps=timed, base=peak)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        views = bench.views(pixels["train"][indices], indices, epoch=epoch)
        backward(
            method,
            Batch(views=(views,), indices=indices, labels=labels["train"][indices]).part,
            Progress(step=step, total_steps=total),
            batch_size=len(indices),
            micro_batch_size=None,
            autocast=lambda: autocast(bench.device, bench.precision),
        )
        optimizer.step()
        step += 1
        if step >= checks[0] * total:
            bench.synchronize()
            spent += time.perf_counter() - started
            checks.pop(0)
            features = {split: embed(bench, method, part) for split, part in pixels.items()}
            votes = knn_vote(features["train"], labels["train"], queries=features["test"], k=20)
            knn = (votes == labels["test"]).float().mean().item()
            print(f"{name} on CIFAR-10 after {spent:.0f} s, {step} of {total} steps of {batch_size}, "
                  f"{2 * batch_size * step / spent:,.0f} views/s: kNN-20 {100 * knn:.1f} %", flush=True)  # fmt: skip
            method.train()
            started = time.perf_counter()
    linear = fit_probe(features["train"], labels["train"], seed=0).accuracy(features["test"], labels["test"])
    print(f"{name} on CIFAR-10, linear head: {100 * linear:.1f} %", flush=True)


def embed(bench: Bench, method: SimCLR | SupCon, pixels: Tensor) -> Tensor:
    """[N, D] float32."""
    method.eval()
    with torch.no_grad(), autocast(bench.device, bench.precision):
        parts = [method.embed(to_input(part, size=32, mean=MEAN, std=STD)).float() for part in pixels.split(1000)]
    return torch.cat(parts)


def main() -> None:
    """Print what is measured, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--minutes", type=float, default=9, help="of all parts together; the trainings share the rest")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    started = time.perf_counter()
    bench = Bench(small=choose_device("auto").type == "cpu")
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "small sizes, to prove that it runs"
    print(f"{bench.device}, {name}, {bench.precision}, torch {torch.__version__}", flush=True)
    compiled = speed(bench) if "speed" in arguments.parts else False
    trainings = [part for part in arguments.parts if part != "speed"] if arguments.data_dir is not None else []
    for number, part in enumerate(trainings):
        left = arguments.minutes - (time.perf_counter() - started) / 60
        minutes = max(0.05, left / (len(trainings) - number) - 0.5)
        with section(f"{part} on CIFAR-10"):
            method, size = bench.method(labels=part == "supcon"), 32 if bench.small else 1024
            train(bench, arguments.data_dir, method=method, minutes=minutes, batch_size=size, compiled=compiled)


def speed(bench: Bench) -> bool:
    """Steps and losses of all sizes; whether a compiled encoder made the larger step faster."""
    rates: dict[tuple[str, ...], float] = {}
    for batch_size in (16,) if bench.small else (512, 1024):
        for compiled in ((),) if bench.small else ((), ("encoder",), ("encoder", "views")):
            with section(f"step, batch {batch_size}, compiled: {compiled}"):
                rates[compiled] = steps(bench, batch_size, compiled=compiled)
        with section(f"step, batch {batch_size}, lightly's loop"):
            lightly_steps(bench, batch_size)
    for rows in (256,) if bench.small else (8192, 131_072, 1_048_576):
        with section(f"loss of {rows} rows"):
            loss_at(bench, rows)
    return rates.get(("encoder",), 0.0) > rates.get((), 0.0)


if __name__ == "__main__":
    main()

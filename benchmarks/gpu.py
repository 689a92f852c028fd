"""What one GPU does in a short lease: training steps, their parts, the loss at many rows, and CIFAR-10 from scratch.

    python -m benchmarks.gpu [--data-dir DIR --minutes 9]

Needs torch, numpy, pydantic, pyyaml, filelock and pillow, no network. DIR holds CIFAR-10 as {train,test}/<class>/*;
without it random bytes stand for images and nothing is trained. Each line is printed as soon as it is known, so that an
end of the lease loses only what was not reached. On a CPU it takes small sizes and proves only that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from contrastive_cli.core.types import Batch, ImageFacts, Progress
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.embeddings.knn import knn_vote
from contrastive_cli.embeddings.probe import fit_probe
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.engine.device import choose_device
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.precision import Precision, autocast, choose_precision
from contrastive_cli.engine.schedule import warmup_cosine
from contrastive_cli.losses.contrastive import nt_xent
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.views.augment import make_views, prepare
from contrastive_cli.views.recipe import RECIPES

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

    def method(self) -> SimCLR:
        """SimCLR with fresh weights."""
        torch.manual_seed(0)
        encoder = build_encoder(self.encoder, channels=3, size=32)
        facts = ImageFacts(count=50_000, channels=3, size=32)
        method = SimCLR(SimCLRConfig(temperature=0.5), encoder=encoder, images=facts)
        return method.to(self.device, memory_format=torch.channels_last)

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


def steps(bench: Bench, batch_size: int, *, compiled: bool) -> None:
    """Views per second of a whole step, and the shares of views and loss in it."""
    method, kind = bench.method(), "compiled" if compiled else "eager"
    if compiled:
        method.encoder.compile()
    optimizer = build_optimizer(method, OptimConfig(), lr=1e-3)
    pixels = torch.randint(0, 256, (batch_size, 3, 32, 32), dtype=torch.uint8, device=bench.device)
    indices = torch.arange(batch_size, device=bench.device)
    projections = torch.randn(2, batch_size, 128, device=bench.device, requires_grad=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(
            method,
            Batch(views=bench.views(pixels, indices, epoch=0), indices=indices).part,
            Progress(step=0, total_steps=1),
            batch_size=batch_size,
            micro_batch_size=None,
            autocast=lambda: autocast(bench.device, bench.precision),
        )
        optimizer.step()

    rounds = 3 if bench.small else 20
    whole = bench.seconds(step, rounds=rounds)
    views = bench.seconds(lambda: bench.views(pixels, indices, epoch=0), rounds=rounds)
    loss = bench.seconds(lambda: nt_xent(projections[0], projections[1], temperature=0.5).backward(), rounds=rounds)
    shares = f"views {100 * views / whole:.1f} %, loss {100 * loss / whole:.1f} % of the step"
    print(f"step, batch {batch_size}, {kind}: {2 * batch_size / whole:,.0f} views/s; {shares}", flush=True)


def loss_at(bench: Bench, rows: int) -> None:
    """Seconds and memory of the loss, forward and backward."""
    z = torch.randn(2, rows // 2, 128, device=bench.device, requires_grad=True)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = bench.seconds(lambda: nt_xent(z[0], z[1], temperature=0.1).backward(), rounds=1)
    peak = f", {torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if bench.device.type == "cuda" else ""
    print(f"loss of {rows} rows x 128: {1000 * seconds:.1f} ms{peak}", flush=True)


def train(bench: Bench, data_dir: Path, *, minutes: float, batch_size: int = 1024) -> None:
    """SimCLR on CIFAR-10 for the minutes; kNN and linear accuracy of frozen features on the test split."""
    images = {split: open_dataset("cifar10", split=split, data_dir=data_dir, size=32) for split in ("train", "test")}
    pixels = {split: torch.from_numpy(part.images[:]).to(bench.device) for split, part in images.items()}
    labels = {split: torch.from_numpy(part.labels).to(bench.device) for split, part in images.items()}
    method = bench.method().train()
    optimizer = build_optimizer(method, OptimConfig(name="sgd"), lr=0.0)
    peak, total, timed, step, started = 0.06 * batch_size / 256, 10**9, 20, 0, time.perf_counter()
    while step < total:
        if step == timed:  # the steps that fit are known from here on, so that the schedule is a function of the step
            bench.synchronize()
            total = max(timed + 1, int(timed * 60 * minutes / (time.perf_counter() - started)))
        epoch, place = divmod(step, len(pixels["train"]) // batch_size)
        order = torch.randperm(len(pixels["train"]), generator=torch.Generator().manual_seed(epoch)).to(bench.device)
        indices = order[place * batch_size : (place + 1) * batch_size]
        rate = peak if step < timed else warmup_cosine(step, total_steps=total, warmup_steps=timed, base=peak)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        batch = Batch(views=bench.views(pixels["train"][indices], indices, epoch=epoch), indices=indices)
        backward(
            method,
            batch.part,
            Progress(step=step, total_steps=total),
            batch_size=len(indices),
            micro_batch_size=None,
            autocast=lambda: autocast(bench.device, bench.precision),
        )
        optimizer.step()
        step += 1
    bench.synchronize()
    spent = time.perf_counter() - started
    features = {split: embed(bench, method, part) for split, part in pixels.items()}
    votes = knn_vote(features["train"], labels["train"], queries=features["test"], k=20)
    knn = (votes == labels["test"]).float().mean().item()
    linear = fit_probe(features["train"], labels["train"], seed=0).accuracy(features["test"], labels["test"])
    rate = 2 * batch_size * step / spent
    print(f"CIFAR-10, {spent:.0f} s, {step} steps of {batch_size}, {rate:,.0f} views/s: "
          f"linear {100 * linear:.1f} %, kNN-20 {100 * knn:.1f} %", flush=True)  # fmt: skip


def embed(bench: Bench, method: SimCLR, pixels: Tensor) -> Tensor:
    """[N, D] float32."""
    method.eval()
    with torch.no_grad(), autocast(bench.device, bench.precision):
        parts = [method.embed(prepare(part, size=32, mean=MEAN, std=STD)).float() for part in pixels.split(1000)]
    return torch.cat(parts)


def main() -> None:
    """Print what is measured, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--minutes", type=float, default=9, help="of the whole lease; about half of it trains")
    arguments = parser.parse_args()
    started = time.perf_counter()
    bench = Bench(small=choose_device("auto").type == "cpu")
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "small sizes, to prove that it runs"
    print(f"{bench.device}, {name}, {bench.precision}, torch {torch.__version__}", flush=True)
    for batch_size in (16,) if bench.small else (512, 1024):
        for compiled in (False,) if bench.small else (False, True):
            with section(f"step, batch {batch_size}"):
                steps(bench, batch_size, compiled=compiled)
    for rows in (256,) if bench.small else (8192, 131_072, 1_048_576):
        with section(f"loss of {rows} rows"):
            loss_at(bench, rows)
    if arguments.data_dir is not None:
        left = arguments.minutes - (time.perf_counter() - started) / 60
        with section("CIFAR-10"):
            train(bench, arguments.data_dir, minutes=max(0.05, left - 1), batch_size=32 if bench.small else 1024)


if __name__ == "__main__":
    main()

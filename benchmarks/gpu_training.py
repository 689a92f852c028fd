"""What `benchmarks.gpu` trains: methods by name, for some minutes, judged by their neighbors on the way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contrastive_cli.core.choices import Precision
from contrastive_cli.core.config import build
from contrastive_cli.core.types import AfterStep, Batch, ImageFacts, Method, Progress
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.embeddings.probes.knn_vote import knn_vote
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.engine.device import choose_device
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.engine.precision import autocast, choose_precision
from contrastive_cli.engine.schedule import warmup_cosine
from contrastive_cli.methods import load_method
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.models.encoders import EncoderConfig, build_encoder
from contrastive_cli.views.augment import make_views, to_input
from contrastive_cli.views.noise import StepNoise
from contrastive_cli.views.recipe import RECIPES

TRAININGS: dict[str, tuple[str, dict[str, Any]]] = {
    "simclr": ("simclr", {"temperature": 0.5}),
    "muon": ("simclr", {"temperature": 0.2}),
    "fastsiam": ("byol", {"targets": "views", "num_views": 4}),
    "sigreg": ("regularized", {"regularizer": "sigreg"}),
    "vicreg": ("regularized", {"regularizer": "vicreg"}),
    "moco": ("moco", {}),
    "supcon": ("supcon", {}),
}
SGD = OptimConfig(name="sgd", lr=0.06, lr_scaling="linear", momentum=0.9, weight_decay=5e-4)
MUON = OptimConfig(name="muon", lr=4e-3, momentum=0.95)  # half of the rate of the preset for CPUs
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
GOAL = 0.9  # of kNN-20 on CIFAR-10
CHECKS = (0.2, 0.4, 0.6, 0.8, 1.0)
WARM_UP_STEPS, TIMED_STEPS = 5, 25


class Bench:
    """The device, how exactly it computes, and the sizes that fit it."""

    def __init__(self, *, small: bool) -> None:
        self.device = choose_device("auto")
        self.precision: Precision = choose_precision("auto", self.device)
        self.small = small

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

    def method(self, training: str, *, encoder: str = "resnet18", size: int = 32) -> Method:
        """A method of `TRAININGS` with fresh weights; a tiny encoder where sizes are small."""
        torch.manual_seed(0)
        name, settings = TRAININGS[training]
        small = EncoderConfig(name="resnet9", width=4, embedding_dim=16)
        net = build_encoder(small if self.small else EncoderConfig(name=encoder), channels=3, size=size)
        facts = ImageFacts(count=50_000, channels=3, size=size, num_classes=10)
        spec = load_method(name)
        method = spec.build(build(spec.config, settings), encoder=net, images=facts)
        return method.to(self.device, memory_format=torch.channels_last)

    def batch(
        self,
        pixels: Tensor,
        indices: Tensor,
        *,
        count: int,
        size: int,
        epoch: int,
        step: int,
        labels: Tensor | None = None,
    ) -> Batch:
        """So many views of the recipe for the size."""
        views = make_views(
            pixels.expand(count, *pixels.shape),
            recipes=[RECIPES["simclr-small" if size <= 64 else "simclr"]] * count,
            indices=indices,
            size=size,
            mean=MEAN,
            std=STD,
            seed=0,
            epoch=epoch,
        )
        noise = StepNoise(seed=0, step=step, indices=indices)
        return Batch(views=(views,), indices=indices, labels=labels, noise=noise)

    def step(self, method: Method, optimizer: torch.optim.Optimizer, batch: Batch, progress: Progress) -> None:
        """One step of the optimizer."""
        optimizer.zero_grad(set_to_none=True)
        backward(
            method,
            batch.part,
            progress,
            batch_size=len(batch.indices),
            micro_batch_size=None,
            autocast=lambda: autocast(self.device, self.precision),
        )
        optimizer.step()
        if isinstance(method, AfterStep):
            method.after_step(progress)


def train(bench: Bench, data_dir: Path, *, training: str, minutes: float, batch_size: int, compiled: bool) -> None:
    """A training on CIFAR-10 for the minutes; accuracy of frozen features on the test split, kNN also on the way."""
    images = {split: open_dataset("cifar10", split=split, data_dir=data_dir, size=32) for split in ("train", "test")}
    pixels = {split: torch.from_numpy(part.images[:]).to(bench.device) for split, part in images.items()}
    labels = {split: torch.from_numpy(part.labels).to(bench.device) for split, part in images.items()}
    method = bench.method(training)
    if compiled:
        encoder_of(method).compile()  # training alone: `embed` sees other shapes, and pays for them once
    optim = MUON if training == "muon" else SGD
    optimizer = build_optimizer(method, optim, lr=optim.lr, precision=bench.precision)
    ratio = batch_size / 256
    peak = optim.lr * (ratio if optim.lr_scaling == "linear" else ratio**0.5)
    step, total, checks = 0, 10**9, list(CHECKS)
    spent, warm, reached = 0.0, 0.0, False
    started = time.perf_counter()
    while step < total:
        if step == WARM_UP_STEPS:  # what compiles, has compiled
            bench.synchronize()
            warm = time.perf_counter()
        if step == TIMED_STEPS:  # the steps that fit are known from here on: the schedule is a function of the step
            bench.synchronize()
            timed = TIMED_STEPS - WARM_UP_STEPS
            total = max(TIMED_STEPS + 1, int(timed * 60 * minutes / (time.perf_counter() - warm)))
        epoch, place = divmod(step, len(pixels["train"]) // batch_size)
        order = torch.randperm(len(pixels["train"]), generator=torch.Generator().manual_seed(epoch)).to(bench.device)
        indices = order[place * batch_size : (place + 1) * batch_size]
        rate = warmup_cosine(step, total_steps=total, warmup_steps=TIMED_STEPS, base=peak)
        for group in optimizer.param_groups:
            group["lr"] = rate
        own, known = pixels["train"][indices], labels["train"][indices]
        batch = bench.batch(own, indices, count=method.num_views, size=32, epoch=epoch, step=step, labels=known)
        bench.step(method, optimizer, batch, Progress(step=step, total_steps=total))
        step += 1
        if step >= checks[0] * total:
            bench.synchronize()
            spent += time.perf_counter() - started
            checks.pop(0)
            features = {split: embed(bench, method, part) for split, part in pixels.items()}
            votes = knn_vote(features["train"], labels["train"], queries=features["test"], k=20)
            knn = (votes == labels["test"]).float().mean().item()
            views = method.num_views * batch_size * step
            done = f"{step} of {total} steps of {batch_size}, {step * batch_size / len(pixels['train']):.1f} epochs"
            print(f"{training} on CIFAR-10 after {spent:.0f} s, {done}, {views / spent:,.0f} views/s: "
                  f"kNN-20 {100 * knn:.1f} %", flush=True)  # fmt: skip
            if knn >= GOAL and not reached:
                print(f"{training}: kNN-20 reached {100 * GOAL:.0f} % within {spent / 60:.1f} minutes", flush=True)
                reached = True
            method.train()
            started = time.perf_counter()
    linear = fit_probe(features["train"], labels["train"], seed=0).accuracy(features["test"], labels["test"])
    print(f"{training} on CIFAR-10, linear head: {100 * linear:.1f} %", flush=True)


def embed(bench: Bench, method: Method, pixels: Tensor) -> Tensor:
    """[N, D] float32."""
    method.eval()
    with torch.no_grad(), autocast(bench.device, bench.precision):
        parts = [method.embed(to_input(part, size=32, mean=MEAN, std=STD)).float() for part in pixels.split(1000)]
    return torch.cat(parts)

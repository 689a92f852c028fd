"""What many processes would do, computed from what one and two do here; and how wrong such a computation is here.

    python -m benchmarks.scaling                        (two minutes: P = 1 and 2 measured, then the tables on paper)
    python -m benchmarks.scaling --paper                (the tables only)

Measured on this machine, with one thread a process, on the scikit-learn digits: the parts of a SimCLR step, each by
itself; the messages of gloo; and whole steps, of which nothing but their parts is told to the computation. Processes
measure their parts at the same time, so that they disturb each other as they will in a step. The tables for GPUs need
figures that no GPU was at hand for: those of `benchmarks.scaling_paper.ASSUMED`, each with its source.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from PIL import Image

from benchmarks.record import machine
from benchmarks.scaling_model import Link, Work, predict
from benchmarks.scaling_paper import SIZE, print_paper
from contrastive_cli.core.config import nested
from contrastive_cli.core.launched import Place
from contrastive_cli.data.images import decode
from contrastive_cli.engine import distributed
from contrastive_cli.engine.accumulate import cut_batch
from contrastive_cli.engine.precision import autocast
from contrastive_cli.engine.running_statistics import frozen
from contrastive_cli.methods.simclr import SimCLR
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.training.setup import TrainingSetup, set_up_training
from contrastive_cli.services.training.steps import Batches, train_steps

PATIENCE = 900.0
WARM_UP = 2  # steps
SMALL, LARGE = 2**10, 2**23  # bytes of the messages that tell delay and rate
ALONE = Link(hop=0.0, gather_rate=1.0, doubling=0.0, sum_rate=1.0, word=0.0)  # of one process, which asks for none


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a process found.

    Attributes:
        work: The parts, by themselves.
        link: The messages; None of one process.
        step: Seconds of a whole step, the median.
    """

    work: Work
    link: Link | None
    step: float


def main() -> None:
    """Measure, compare, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet9")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--pieces", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--paper", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if not arguments.paper:
        settings = {
            "encoder.name": arguments.encoder,
            "dataset.size": arguments.size,
            "device": "cpu",
            "train.batch_size": arguments.batch_size,
            "train.micro_batch_size": -(-arguments.batch_size // arguments.pieces),
            "train.epochs": 1,
        }
        print(f"{machine()}; one thread a process, gloo, seed 0, medians of {arguments.rounds} rounds")
        what = f"simclr with {arguments.encoder} at {arguments.size} px, {arguments.batch_size} images"
        print(f"{what} in {arguments.pieces} micro-batches", flush=True)
        for processes in (1, 2):
            work = functools.partial(measure, settings=settings, pieces=arguments.pieces, rounds=arguments.rounds)
            compare(together(processes, work), batch=arguments.batch_size, pieces=arguments.pieces)
    print_paper(decoded=decoding_rate())


def compare(found: list[Measured], *, batch: int, pieces: int) -> None:
    """Print what the slowest process had, what follows from its parts, and the difference."""
    processes = len(found)
    slowest = [max(values) for values in zip(*(astuple(each.work) for each in found), strict=True)]
    work = Work(**dict(zip(Work.__slots__, slowest, strict=True)))
    link = found[0].link or ALONE
    step = predict(work, link, processes=processes, batch=batch, pieces=pieces)
    measured = max(each.step for each in found)
    print(f"\nP = {processes}")
    if processes > 1:
        print(
            f"  gather {1e6 * link.hop:.0f} us and {link.gather_rate / 1e6:.0f} MB/s, sum {1e6 * link.doubling:.0f} us "
            f"and {link.sum_rate / 1e6:.0f} MB/s, a word {1e6 * link.word:.0f} us"
        )
        share = (processes - 1) / processes
        print(
            f"  a process receives {work.gathered(batch) * share / 1e6:.3f} MB of projections, "
            f"{pieces * work.statistics_bytes * share / 1e6:.3f} MB of statistics and "
            f"{2 * work.gradient_bytes * share / 1e6:.2f} MB of gradients in a step"
        )
    parts = ", ".join(f"{name} {1000 * step.part(name):.1f}" for name in step.__slots__)
    print(f"  ms: {parts}")
    error = 100 * (step.total / measured - 1)
    print(
        f"  step: predicted {1000 * step.total:.0f} ms, measured {1000 * measured:.0f} ms, error {error:+.1f} %",
        flush=True,
    )


def together(processes: int, work: Callable[[], Measured]) -> list[Measured]:
    """What `work` returns in each of so many new processes that have met."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        started = [
            context.Process(target=_process, args=(rank, processes, f"{folder}/meeting", work, answers), daemon=True)
            for rank in range(processes)
        ]
        for process in started:
            process.start()
        found: dict[int, Measured] = {}
        end = time.monotonic() + PATIENCE
        while len(found) < processes:
            try:
                rank, answer = answers.get(timeout=1.0)
                found[rank] = answer
            except queue.Empty:
                if time.monotonic() > end or any(process.exitcode for process in started):
                    raise SystemExit("a process has failed; what it said is above") from None
        for process in started:
            process.join()
    return [found[rank] for rank in range(processes)]


def _process(rank: int, processes: int, meeting: str, work: Callable[[], Measured], answers: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if processes > 1:
        store = torch.distributed.FileStore(meeting, processes)  # type: ignore[attr-defined]
        place = Place(rank=rank, size=processes, local_rank=rank, local_size=processes)
        distributed.join_at(store, place)
    answers.put((rank, work()))
    distributed.leave()


def measure(*, settings: dict[str, Any], pieces: int, rounds: int) -> Measured:
    """The parts of a step, the messages and whole steps, in this process."""
    setup = set_up_training(resolve(config=None, sets=nested(settings), flags={}).config)
    steps = _steps(setup, total=WARM_UP + rounds + 1)
    seconds = {name: _median(part, rounds=rounds) for name, part in _parts(setup, pieces=pieces).items()}
    batch_size = setup.config.batch_size
    images, rows = batch_size / pieces, setup.method.num_views * batch_size
    method = setup.method
    assert isinstance(method, SimCLR), "the settings ask for it"
    statistics_of = ("running_mean", "running_var")
    projections = method.project(Batches(setup).part(0, slice(0, 2)).views)
    work = Work(
        look=seconds["look"] / images,
        learn=seconds["learn"] / images,
        pair=seconds["loss"] / rows**2,
        optimizer=seconds["optimizer"],
        views=setup.method.num_views,
        row_bytes=projections[0, 0].nbytes,
        gradient_bytes=sum(weight.nbytes for weight in method.parameters()),
        statistics_bytes=sum(buffer.nbytes for name, buffer in method.named_buffers() if name.endswith(statistics_of)),
    )
    link = None if distributed.num_processes() == 1 else _link(rounds)
    for _ in range(WARM_UP):
        next(steps)
    return Measured(work=work, link=link, step=_median(lambda: next(steps), rounds=rounds))


def _steps(setup: TrainingSetup, *, total: int) -> Iterator[None]:
    """Whole steps, with what the training's loop has processes agree on after each."""
    for _ in train_steps(setup, first_step=0, total_steps=total):
        distributed.largest(0)
        distributed.agree(False)
        yield


def _parts(setup: TrainingSetup, *, pieces: int) -> dict[str, Callable[[], object]]:
    """The parts of a step, each of which needs nobody else."""
    method = setup.method
    assert isinstance(method, SimCLR), "the settings ask for it"
    batches, batch_size = Batches(setup), setup.config.batch_size
    piece = cut_batch(batch_size, -(-batch_size // pieces))[0]
    own = functools.partial(autocast, setup.device, setup.precision)

    def look() -> torch.Tensor:
        views = batches.part(0, piece).views
        with torch.no_grad(), frozen(method), own():
            found: torch.Tensor = method.project(views)
        return found

    found = look()
    cotangent = torch.randn_like(found) / batch_size
    rows = torch.randn(len(found), batch_size, found.shape[2], requires_grad=True)

    def learn() -> None:
        method.zero_grad(set_to_none=True)
        views = batches.part(0, piece).views
        with own():
            again = method.project(views)
        again.backward(cotangent)

    def loss() -> None:
        with own():
            output = method.contrast(rows, None)
        output.loss.backward()

    return {"look": look, "learn": learn, "loss": loss, "optimizer": setup.optimizer.step}


def _link(rounds: int) -> Link:
    """Delay and rate of the messages, from small and large ones."""
    others, processes = distributed.num_processes() - 1, distributed.num_processes()
    small, large = (torch.zeros(size // 4) for size in (SMALL, LARGE))
    gathers = [_median(functools.partial(distributed.exchange, each), rounds=3 * rounds) for each in (small, large)]
    sums = [
        _median(functools.partial(distributed.sum_in_buckets, [each]), rounds=3 * rounds) for each in (small, large)
    ]

    def words() -> None:
        distributed.largest(0)
        distributed.agree(False)

    received = LARGE - SMALL
    one = Link(hop=1.0, gather_rate=1.0, doubling=1.0, sum_rate=1.0, word=1.0)
    return Link(
        hop=gathers[0] / others,
        gather_rate=received * others / max(1e-9, gathers[1] - gathers[0]),
        doubling=sums[0] / max(1, (processes - 1).bit_length()),
        sum_rate=2 * received * others / processes / max(1e-9, sums[1] - sums[0]),
        word=_median(words, rounds=3 * rounds) / one.agree(processes),
    )


def decoding_rate(rounds: int = 24) -> float:
    """Photos of 1200 x 900 that one core decodes to the size of the tables in a second."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((1200, 900), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels += random.integers(-8, 9, pixels.shape, dtype=np.int16)  # a JPEG of pure noise would be slow to read
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            decode(path, size=SIZE, channels=3)
            times.append(time.perf_counter() - started)
    return 1 / statistics.median(times)


def _median(part: Callable[[], object], *, rounds: int) -> float:
    """Seconds of a part, begun by all processes at once, after one round of warming up."""
    times = []
    for _ in range(rounds + 1):
        distributed.largest(0)
        started = time.perf_counter()
        part()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()

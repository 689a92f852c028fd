"""Time and memory of NT-Xent, forward and backward: ours, lightly's, and cross-entropy on the full matrix.

    OMP_NUM_THREADS=2 python -m benchmarks.loss

Each memory figure comes from a process of its own, less what that process held before the loss.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.record import Row, record
from contrastive_cli.losses.contrastive import nt_xent

TEMPERATURE = 0.1
WIDTH = 128
SEED = 0
LARGEST_FULL_MATRIX = 16384

Loss = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[512, 4096, 8192], help="rows 2N that are timed")
    parser.add_argument(
        "--memory-rows", type=int, nargs="*", default=[8192, 32768], help="rows whose memory is measured"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    parser.add_argument("--measure-memory", nargs=2, metavar=("LOSS", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_memory:
        name, rows = arguments.measure_memory
        print(peak_megabytes(name, int(rows)))
        return
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"width {WIDTH}, float32, temperature {TEMPERATURE}, seed {SEED}, median of {arguments.repeats}\n")
    # Memory first: on Linux a child starts with the peak of its parent.
    rows = [*print_memory(arguments.memory_rows), *print_times(arguments.rows, repeats=arguments.repeats)]
    if arguments.record:
        record("loss", rows, threads=torch.get_num_threads())


def print_memory(sizes: list[int]) -> Iterator[Row]:
    """One line per size and loss, each from a process of its own; only ours above LARGEST_FULL_MATRIX rows."""
    print(f"{'rows':>7} {'loss':<14} {'peak MB':>9} {'seconds':>9}")
    for rows in sizes:
        found = {}
        for name in ["ours", "lightly", "cross_entropy"] if rows <= LARGEST_FULL_MATRIX else ["ours"]:
            command = [sys.executable, "-m", "benchmarks.loss", "--measure-memory", name, str(rows)]
            start = time.perf_counter()
            megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            print(f"{rows:>7} {name:<14} {megabytes:>9} {time.perf_counter() - start:>9.1f}", flush=True)
            found[name] = float(megabytes)
        peer = "lightly" if "lightly" in found else ""
        yield Row(
            what=f"memory of NT-Xent and its gradient, {rows:,} rows x {WIDTH}",
            clr=found["ours"],
            unit="MB",
            peer=peer,
            theirs=found.get(peer),
        )
    print()


def print_times(sizes: list[int], *, repeats: int) -> Iterator[Row]:
    """One line per size; the losses take turns, so that a busy machine slows all alike."""
    print(f"{'rows':>7} {'ours ms':>9} {'lightly ms':>11} {'full CE ms':>11} {'lightly/ours':>13} {'CE/ours':>8}")
    for rows in sizes:
        z1, z2 = projections(rows)
        seconds: dict[str, list[float]] = {name: [] for name in losses()}
        for repeat in range(repeats + 1):
            for name, loss in losses().items():
                start = time.perf_counter()
                torch.autograd.grad(loss(z1, z2), [z1, z2])
                if repeat > 0:  # the first one warms up
                    seconds[name].append(time.perf_counter() - start)
        ours, lightly, full = (1000 * statistics.median(values) for values in seconds.values())
        print(f"{rows:>7} {ours:>9.2f} {lightly:>11.2f} {full:>11.2f} {lightly / ours:>13.2f} {full / ours:>8.2f}")
        what = f"NT-Xent, forward and backward, {rows:,} rows x {WIDTH}"
        for peer, theirs in (("lightly", lightly), ("cross entropy on the full matrix", full)):
            yield Row(what=what, clr=ours, unit="ms", peer=peer, theirs=theirs, rounds=repeats)


def losses() -> dict[str, Loss]:
    """The three implementations; each computes the same value."""
    from lightly.loss import NTXentLoss

    return {
        "ours": lambda z1, z2: nt_xent(z1, z2, temperature=TEMPERATURE),
        "lightly": NTXentLoss(temperature=TEMPERATURE),
        "cross_entropy": cross_entropy,
    }


def cross_entropy(z1: Tensor, z2: Tensor) -> Tensor:
    """NT-Xent as most repositories write it."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = z @ z.T / TEMPERATURE  # [2N, 2N]
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z1)))


def projections(rows: int) -> tuple[Tensor, Tensor]:
    """Two views, [rows / 2, WIDTH] each."""
    generator = torch.Generator().manual_seed(SEED)
    z1 = torch.randn(rows // 2, WIDTH, generator=generator)
    z2 = z1 + torch.randn(rows // 2, WIDTH, generator=generator)
    return z1.requires_grad_(), z2.requires_grad_()


def peak_megabytes(name: str, rows: int) -> int:
    """Growth of this process's largest resident size during one forward and backward."""
    loss = losses()[name]
    torch.autograd.grad(loss(*(small := projections(64))), small)  # loads the libraries
    z1, z2 = projections(rows)
    before = resident_megabytes()
    torch.autograd.grad(loss(z1, z2), [z1, z2])
    return round(resident_megabytes() - before)


def resident_megabytes() -> float:
    """Largest resident size so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def processor() -> str:
    """Architecture and instruction set."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    main()

"""Rate of `clr embed` beside the bare forward pass of the same folded network, in turns.

    OMP_NUM_THREADS=2 python -m benchmarks.embed --data-dir DIR [--encoder resnet18 --rounds 3 --folder DIR/train/cat]

DIR holds CIFAR-10. A run is trained for a moment first. `bare` is the encoder alone on images that are ready, as many
as the split has; `in process` is what the command does between start-up and writing; `command` is all of it, from the
shell. `--folder` embeds image files and says how many processors that kept busy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.record import Row, record
from contrastive_cli.core.runs import Run
from contrastive_cli.engine.device import images_per_pass
from contrastive_cli.engine.precision import autocast
from contrastive_cli.services.inference.model import Model, embed_images, load_model
from contrastive_cli.services.inference.splits import open_split


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--encoder", default="resnet9")
    parser.add_argument("--split", default="train")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--record", action="store_true", help="keep the result for docs/speed.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "runs", "few")
        data = ["--dataset", "cifar10", "--data-dir", str(options.data_dir)]
        clr("pretrain", *data, "--encoder", options.encoder, "--budget", "5s", "--device", "cpu", "--out", str(run))
        model = load_model(Run(run), device="cpu")
        images = open_split(model, options.split)
        command = ["embed", "--run", str(run), "--split", options.split, "--out", str(Path(folder, "e.npz"))]
        bare, inside, whole, start = [], [], [], []
        for _ in range(options.rounds):
            bare.append(seconds(lambda: forward(model, images.num_samples)))
            inside.append(seconds(lambda: embed_images(model, images)))
            whole.append(seconds(lambda: clr(*command)))
            start.append(seconds(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True)))
        floor, threads = statistics.median(bare), torch.get_num_threads()
        print(f"{images.num_samples} images, {model.manifest.encoder}, {model.precision}, {threads} threads")
        print(f"bare forward pass: {floor:.2f} s, {images.num_samples / floor:.0f} images/s")
        print(f"in process: {share(bare, inside)}")
        print(f"command: {share(bare, whole)}")
        ready = [all_ - torch_ for all_, torch_ in zip(whole, start, strict=True)]
        print(f"command less `import torch` ({statistics.median(start):.2f} s): {share(bare, ready)}")
        if options.record:
            count, rounds = images.num_samples, options.rounds
            name = f"{count:,} images of 32 px, {model.manifest.encoder}, {model.precision}"
            bare_rate = {"unit": "images/s", "peer": "bare forward pass", "theirs": count / floor, "rounds": rounds}
            named = {"embedding without start-up": inside, "`clr embed` with start-up": whole}
            rows = [
                Row(what=f"{key}, {name}", clr=count / statistics.median(taken), **bare_rate)
                for key, taken in named.items()
            ]
            record("embed" if options.encoder == "resnet9" else f"embed-{options.encoder}", rows, threads=threads)
        if options.folder is not None:
            before = os.times()
            took = seconds(lambda: clr("embed", str(options.folder), "--run", str(run), "--out", command[-1]))
            after = os.times()
            used = after.children_user - before.children_user + after.children_system - before.children_system
            print(f"{options.folder}: {took:.2f} s with start-up, {used / took:.2f} processors busy")


def clr(*arguments: str) -> None:
    """Run the command."""
    command = [sys.executable, "-m", "contrastive_cli", *arguments, "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of the work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def share(bare: list[float], others: list[float]) -> str:
    """The median time, and the median over rounds of the bare time's part of it."""
    part = statistics.median(mine / other for mine, other in zip(bare, others, strict=True))
    return f"{statistics.median(others):.2f} s, {100 * part:.0f} % of the bare rate"


def forward(model: Model, num_samples: int) -> None:
    """The folded encoder on as many images, the same batch again and again."""
    size = images_per_pass(model.device, model.manifest.size)
    batch = torch.randn(size, model.channels, model.manifest.size, model.manifest.size)
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(model.device, model.precision):
        for _ in range(-(-num_samples // size)):
            model.embedder.embed(batch)


if __name__ == "__main__":
    main()

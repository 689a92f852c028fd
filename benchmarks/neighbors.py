"""Do mined neighbors help BYOL? Baseline, neighbor views and mixed targets, seed by seed at the same number of steps.

    python -m benchmarks.neighbors --data-dir DIR --out DIR --epochs 2 ae=ae-neighbors.pkl simclr=simclr-neighbors.pkl

Each NAME=FILE is what `clr knn` wrote for the training images. Every run takes the preset of byol for the dataset, with
the same steps, batches, weights at the start and augmentation of a seed; only the positives differ. Frozen features of
all training images are judged on the test split: linear head (penalty chosen on a split of train) and kNN-20 vote.

Results are lines of OUT/results.jsonl. The command can be stopped and started again, and started several times side by
side (`--threads 1` each): every process takes the next run that is neither done nor being done. `--table` only prints.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from scipy import stats

from contrastive_cli.core.config import merge, read_assignments
from contrastive_cli.core.runs import Run
from contrastive_cli.embeddings.probes.knn_vote import knn_vote
from contrastive_cli.embeddings.probes.linear_probe import fit_probe
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.inference.model import embed_pixels, load_model
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import Session, resume_session, start_session

BASELINE = "augment"
SCORES = ("linear", "knn")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One training: which positives, from which file, with which seed."""

    positives: str
    source: str
    neighbors: Path | None
    seed: int

    @property
    def name(self) -> str:
        """The folder of its run."""
        return f"{self.positives}-{self.source}-s{self.seed}" if self.source else f"{self.positives}-s{self.seed}"


def list_jobs(files: dict[str, Path], *, seeds: int) -> list[Job]:
    """All trainings, whole seeds first, so that an unfinished table has pairs."""
    jobs = []
    for seed in range(seeds):
        jobs.append(Job(positives=BASELINE, source="", neighbors=None, seed=seed))
        for source, file in files.items():
            for positives in ("neighbor", "mix"):
                jobs.append(Job(positives=positives, source=source, neighbors=file, seed=seed))
    return jobs


def open_session(job: Job, folder: Path, options: argparse.Namespace) -> Session:
    """A new run, or the one that was interrupted."""
    if (folder / "manifest.json").exists():
        return resume_session(Run(folder))
    flags: dict[str, Any] = {
        "method": {"name": "byol", "positives": job.positives},
        "dataset": {"name": options.dataset},
        "train": {"epochs": options.epochs},
        "seed": job.seed,
    }
    if options.data_dir is not None:
        flags["dataset"]["data_dir"] = str(options.data_dir)
    if job.neighbors is not None:
        flags["neighbors"] = str(job.neighbors)
    tree = merge(read_assignments(options.set), flags)
    return start_session(resolve(config=None, sets={}, flags=tree).config, out=folder, overwrite=False)


def run(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """Train, unless that is done, and evaluate."""
    folder = options.out / job.name
    if not (folder / "manifest.json").exists() or Run(folder).manifest().status != "finished":
        for _ in train_session(open_session(job, folder, options)):
            pass
    model = load_model(Run(folder))
    train, test = (open_split(model, split) for split in ("train", "test"))
    features = [torch.from_numpy(embed_pixels(model, images.images)) for images in (train, test)]
    labels = [torch.from_numpy(images.labels) for images in (train, test)]
    votes = knn_vote(features[0], labels[0], queries=features[1], k=20)
    manifest = model.manifest
    return {
        "job": job.name,
        "positives": job.positives,
        "source": job.source,
        "seed": job.seed,
        "linear": fit_probe(features[0], labels[0], seed=0).accuracy(features[1], labels[1]),
        "knn": (votes == labels[1]).float().mean().item(),
        "purity": None if manifest.neighbors is None else manifest.neighbors.purity,
        "steps": manifest.total_steps,
        "batch_size": model.config.batch_size,
        "seconds": round(manifest.seconds, 1),
        "threads": manifest.threads,
        "command": list(manifest.command),
    }


def read_results(out: Path) -> dict[str, dict[str, Any]]:
    """The finished runs by name."""
    file = out / "results.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return {result["job"]: result for result in map(json.loads, lines)}


def work(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Take jobs until none is left that another process does not hold."""
    for job in jobs:
        try:
            with FileLock(options.out / f"{job.name}.lock", timeout=0):
                if job.name in read_results(options.out):
                    continue
                result = run(job, options)
                with (options.out / "results.jsonl").open("a") as file:  # one short write: lines stay whole
                    file.write(json.dumps(result) + "\n")
                print(f"{job.name}: linear {100 * result['linear']:.2f} %, kNN {100 * result['knn']:.2f} %", flush=True)
        except Timeout:
            continue


def paired(values: dict[int, float], reference: dict[int, float]) -> tuple[float, float]:
    """Mean difference over the seeds that both have, and half of its 95 % interval (t); NaN below two seeds."""
    differences = [values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())]
    if len(differences) < 2:
        return (differences[0] if differences else float("nan")), float("nan")
    error = statistics.stdev(differences) / np.sqrt(len(differences))
    return statistics.mean(differences), float(stats.t.ppf(0.975, len(differences) - 1) * error)


def table(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line for every kind of positives and source of neighbors; accuracies and differences in percent."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["positives"], result["source"]), []).append(result)
    yield "| positives | neighbors | purity | seeds | linear | difference | kNN-20 | difference |"
    yield "|---|---|---|---|---|---|---|---|"
    baseline = groups.get((BASELINE, ""), [])
    for (positives, source), rows in sorted(groups.items(), key=lambda item: (item[0][0] != BASELINE, item[0][::-1])):
        cells = [positives, source or "-", "-" if not source else f"{100 * rows[0]['purity']:.1f} %", str(len(rows))]
        for score in SCORES:
            values = {row["seed"]: 100 * row[score] for row in rows}
            cells.append(f"{statistics.mean(values.values()):.2f}")
            difference, half = paired(values, {row["seed"]: 100 * row[score] for row in baseline})
            cells.append(f"{difference:+.2f} ± {half:.2f}" if source else "-")
        yield "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run what is left to do, then print the table of what is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("neighbors", nargs="*", metavar="NAME=FILE", help="neighbors of the training images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=float, default=2.0, help="the same for every run; may be a fraction")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="as of `clr pretrain`, for all runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    files = {}
    for word in options.neighbors:
        name, equals, path = word.partition("=")
        if not (name and equals and Path(path).is_file()):
            parser.error(f"{word!r} is not NAME=FILE with a file that exists")
        files[name] = Path(path).absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    if not options.table:
        work(list_jobs(files, seeds=options.seeds), options)
    print("\n".join(table(list(read_results(options.out).values()))))


if __name__ == "__main__":
    main()

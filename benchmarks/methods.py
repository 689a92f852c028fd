"""Every method on CIFAR-10 for the same computing time, with the project's own commands.

    python -m benchmarks.methods plan  --data-dir DIR --out OUT --minutes 3     (alone on the machine: it times steps)
    python -m benchmarks.methods run   --data-dir DIR --out OUT --seeds 0 1 2
    python -m benchmarks.methods table --out OUT

NAMES of `--methods` are methods and their variants below; all of them where none is named.
`plan` times the steps of each preset and fixes how many fit into the minutes; `run` then trains that many, so that the
result does not depend on what else the machine does. Several `run` may work side by side: a job whose directory exists
is another's. Frozen features of the 50,000 training images are judged on the test split by a linear head, whose penalty
is chosen on a split of train, and by a kNN-20 vote.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contrastive_cli.methods import list_methods

VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {  # beside every method as its preset has it
    "byol:fastsiam": ("byol", ("method.targets=views", "method.num_views=4")),
    "byol:simsiam": ("byol", ("method.target=self",)),
    "byol:fastsiam-simsiam": ("byol", ("method.targets=views", "method.num_views=4", "method.target=self")),
    "byol:fast-moco": ("byol", ("method.split=true",)),
    "byol:two-recipes": ("byol", ("view_groups=[{recipe: byol-first-small}, {recipe: byol-second-small}]",)),
    "byol:multi-crop": (
        "byol",
        (
            "method.targets=views",
            "method.num_views=6",
            "method.target_views=2",
            "view_groups=[{count: 2}, {count: 4, size_ratio: 0.5, crop_area: [0.1, 0.4]}]",
        ),
    ),
    **{
        f"regularized:{regularizer}": ("regularized", (f"method.regularizer={regularizer}",))
        for regularizer in ("visreg", "vicreg", "barlow", "frossl", "tcr")
    },
    "regularized:multi-crop": (
        "regularized",
        (
            "method.num_views=6",
            "method.target_views=2",
            "view_groups=[{count: 2}, {count: 4, size_ratio: 0.5, crop_area: [0.1, 0.4]}]",
        ),
    ),
    "regularized:tcr-8-views": ("regularized", ("method.regularizer=tcr", "method.num_views=8", "train.batch_size=64")),
    "moco:queue": ("moco", ("method.version=v2+",)),
    "swav:two-views": ("swav", ("method.num_views=2", "view_groups=[{count: 2}]")),
    "dino:two-views": ("dino", ("method.num_views=2", "view_groups=[{count: 2}]")),
}


def clr(*arguments: str | Path) -> Any:
    """Run `clr` with --json and return what it said."""
    command = [sys.executable, "-m", "contrastive_cli", *map(str, arguments), "--json", "--quiet"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def pretrain_options(name: str, data_dir: Path) -> list[str | Path]:
    """What `clr pretrain` is asked for a method or a variant of one."""
    method, sets = VARIANTS.get(name, (name, ()))
    options: list[str | Path] = ["--dataset", "cifar10", "--data-dir", data_dir, "--method", method]
    return options + [word for setting in (*sets, "train.evaluations=0") for word in ("--set", setting)]


def plan(data_dir: Path, out: Path, *, minutes: float, methods: Iterable[str]) -> None:
    """Write to OUT/plan.json how many steps of each method fit into the minutes."""
    file = out / "plan.json"
    plans = json.loads(file.read_text()) if file.exists() else {}
    for method in methods:
        plans[method] = clr("pretrain", *pretrain_options(method, data_dir), "--budget", f"{minutes}m", "--plan")
        print(f"{method}: {plans[method]['steps']} steps at {plans[method]['views_per_second']} views/s", flush=True)
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(plans))


def run(data_dir: Path, out: Path, *, methods: Iterable[str], seeds: Iterable[int]) -> None:
    """Train and judge every job that nobody has begun."""
    plans = json.loads((out / "plan.json").read_text())
    for seed in seeds:
        for method in methods:
            folder = out / f"{method.replace(':', '.')}-{seed}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            epochs = repr(plans[method]["steps"] / plans[method]["steps_per_epoch"])
            options = [*pretrain_options(method, data_dir), "--seed", str(seed), "--epochs", epochs]
            trained = clr("pretrain", *options, "--out", folder / "run")
            first = method == "simclr" and seed == 0
            judged = clr("linear-eval", "--run", folder / "run", "--baseline", "random,pixels" if first else "none")
            (folder / "result.json").write_text(json.dumps({"trained": trained, "rows": judged["rows"]}))


def table(out: Path) -> None:
    """Print the Markdown table of all finished jobs, best linear accuracy first."""
    scores: dict[str, dict[str, list[float]]] = {}
    for file in sorted(out.glob("*/result.json")):
        trained = file.parent.name.rpartition("-")[0].replace(".", ":")
        for row in json.loads(file.read_text())["rows"]:
            features, _, space = row["features"].partition(" ")
            name = trained if features == "pretrained" else features
            scores.setdefault(name, {}).setdefault(f"{row['head']} {space}".strip(), []).append(100 * row["accuracy"])
    print("| features | linear | kNN-20 | kNN-20 whitened | seeds |\n|---|---|---|---|---|")
    for name, heads in sorted(scores.items(), key=lambda item: -statistics.mean(item[1]["linear"])):
        cells = [_mean(heads.get(head, [])) for head in ("linear", "knn", "knn whitened")]
        print(f"| {name} | {' | '.join(cells)} | {len(heads['linear'])} |")


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f} %{spread}"


def main() -> None:
    """Plan, run or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["plan", "run", "table"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3)
    names = [*list_methods(), *VARIANTS]
    parser.add_argument("--methods", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    if arguments.action == "plan":
        plan(arguments.data_dir, arguments.out, minutes=arguments.minutes, methods=arguments.methods)
    elif arguments.action == "run":
        run(arguments.data_dir, arguments.out, methods=arguments.methods, seeds=arguments.seeds)
    else:
        table(arguments.out)


if __name__ == "__main__":
    main()

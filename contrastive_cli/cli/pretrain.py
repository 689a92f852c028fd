"""`clr pretrain`: train an encoder and keep it in a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastive_cli.cli.completion import complete_datasets, complete_methods, complete_presets, complete_runs
from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import (
    DATA,
    MODEL,
    OPTIMIZATION,
    RUN,
    DataDir,
    Download,
    Json,
    Labels,
    Layout,
    MaxBad,
    Quiet,
    Unlabeled,
    refuse_beside,
)
from contrastive_cli.cli.processes import PROCESSES_HELP, begun_run, enter_processes, part_processes
from contrastive_cli.cli.resuming import go_on
from contrastive_cli.cli.sweep import plan_sweep, train_sweep
from contrastive_cli.cli.training import run_session
from contrastive_cli.cli.waiting import waiting
from contrastive_cli.core.choices import AskedPrecision
from contrastive_cli.core.clock import process_start
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.launched import place
from contrastive_cli.core.wording import counted

if TYPE_CHECKING:
    from contrastive_cli.services.training.sessions import Session


def pretrain(
    method: Annotated[
        str | None,
        typer.Option(
            help="Method, see `clr methods`, or FILE.py; simclr if not given.",
            autocompletion=complete_methods,
            rich_help_panel=MODEL,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="resnet9, resnet18, resnet34, resnet50, timm/NAME; by device if not given.", rich_help_panel=MODEL
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="What the encoder begins with: a published name such as IMAGENET1K_V2 or pretrained, a file, a folder "
            "or a run. It brings its own preprocessing, and a tenth of the learning rate.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="Run whose encoder to begin with, and whose preprocessing to keep.", rich_help_panel=MODEL
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset, see `clr datasets`; digits if not given.",
            autocompletion=complete_datasets,
            rich_help_panel=DATA,
        ),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    max_bad: MaxBad = None,
    labels: Labels = None,
    layout: Layout = None,
    unlabeled: Unlabeled = False,
    neighbors: Annotated[
        Path | None,
        typer.Option(help="Neighbors of every image, a file that `clr knn` wrote (byol).", rich_help_panel=DATA),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the images; see --budget.", rich_help_panel=OPTIMIZATION)
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time from start to end instead of --epochs: seconds, or 15m, 2h. With neither, and none in a preset, "
            "15m on a CPU and 100 epochs elsewhere.",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images in one loss; 256 or half of the images if not given.", rich_help_panel=OPTIMIZATION),
    ] = None,
    micro_batch_size: Annotated[
        int | None,
        typer.Option(help="Images per pass; all negatives of the batch are kept.", rich_help_panel=OPTIMIZATION),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of a batch of 256, scaled by the root of the batch size unless optim.lr_scaling says "
            "otherwise; 1e-3, or the preset's, if not given.",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    precision: Annotated[
        AskedPrecision | None, typer.Option(help="Number format; auto if not given.", rich_help_panel=OPTIMIZATION)
    ] = None,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the encoder first, for faster steps on a GPU.", rich_help_panel=OPTIMIZATION
        ),
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="Seed of everything random; 0 if not given.", rich_help_panel=RUN)
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Several seeds such as 0,1,2: a run of each, one after another, and their mean. --out gets -sSEED.",
            rich_help_panel=RUN,
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            help="A field and several values, optim.lr=1e-3,2e-3: a run of each, compared. --out gets -FIELD-VALUE.",
            rich_help_panel=RUN,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, mps; auto if not given.", rich_help_panel=RUN)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="YAML file, or a preset's name (configs/).", autocompletion=complete_presets, rich_help_panel=RUN
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field, such as method.temperature=0.2; repeatable.", rich_help_panel=RUN),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run directory; runs/METHOD-DATASET-TIME-sSEED if not given.", rich_help_panel=RUN),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with this interrupted run.", autocompletion=complete_runs, rich_help_panel=RUN),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Rename an existing run away.", rich_help_panel=RUN)
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Show what would happen, from a sample of the images and a few timed steps; nothing is written.",
            rich_help_panel=RUN,
        ),
    ] = False,
    processes: Annotated[int | None, typer.Option(min=1, help=PROCESSES_HELP, rich_help_panel=RUN)] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder; with no option at all, by SimCLR on the embedded handwritten digits.

    clr pretrain

    clr pretrain --dataset cifar10 --data-dir data --budget 15m

    clr pretrain --dataset folder --data-dir photos --epochs 50 --set method.temperature=0.2

    clr pretrain --dataset folder --data-dir photos --encoder resnet50 --weights IMAGENET1K_V2

    clr pretrain --epochs 20 --seeds 0,1,2 --out runs/simclr
    """
    began = process_start()
    output = Output(json=json, quiet=quiet)
    flags = {
        "method.name": method,
        "encoder.name": encoder,
        "encoder.weights": weights if from_ is None else _path_of_run(from_, weights),
        "dataset.name": dataset,
        "dataset.data_dir": None if data_dir is None else str(data_dir),
        "dataset.download": download or None,
        "dataset.max_bad": max_bad,
        "dataset.layout": layout,
        "dataset.labels": None if labels is None else str(labels),
        "dataset.unlabeled": unlabeled or None,
        "neighbors": None if neighbors is None else str(neighbors),
        "train.epochs": epochs,
        "train.budget": budget,
        "train.batch_size": batch_size,
        "train.micro_batch_size": micro_batch_size,
        "optim.lr": lr,
        "train.compile": compile_ or None,
        "train.precision": precision,
        "seed": seed,
        "device": device,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    if (plan or seeds is not None) and max(place().size, processes or 1) > 1:
        raise UsageError(
            f"{'--plan' if plan else '--seeds'} is for one process", hint="leave out --processes and the launcher"
        )
    enter_processes(processes)
    if (begun := begun_run()) is not None:
        go_on(begun, {}, config=None, sets=[], output=output, began=began)
        return
    if resume is not None:
        _refuse_with_resume(out=out, overwrite=overwrite, plan=plan, seeds=seeds, sweep=sweep)
        go_on(resume, given, config=config, sets=set_ or [], output=output, began=began)
        return
    if seeds is not None or sweep is not None:
        refuse_beside("--seeds" if sweep is None else "--sweep", {"--seed": seed if seeds else None, "--plan": plan})
        runs = []
        for number, variant in enumerate(plan_sweep(seeds, sweep)):  # all are read before the first one is trained
            own = given if variant.seed is None else {**given, "seed": variant.seed}
            sets = [*(set_ or []), *([variant.assignment] if variant.assignment else [])]
            quietly = output if number == 0 else Output(json=json, quiet=True)
            runs.append((variant, _resolve(own, config=config, sets=sets, output=quietly)))
        train_sweep(runs, start=_start, out=out, overwrite=overwrite, output=output, began=began)
        return
    resolved = _resolve(given, config=config, sets=set_ or [], output=output)
    if plan:
        _show_plan(resolved, output)
        return
    session = _start(resolved, out=out, overwrite=overwrite, output=output, began=began)
    summary = run_session(session, output)
    if part_processes():
        output.result(summary, f"{session.run.path}")


def _path_of_run(name: str, weights: str | None) -> str:
    """The run that --from names, as weights."""
    if weights is not None:
        raise UsageError("--from names a run's weights, and --weights others", hint="leave one of them out")
    from contrastive_cli.core.runs import find_run

    return str(find_run(name).path.absolute())


def _resolve(given: Mapping[str, Any], *, config: str | None, sets: list[str], output: Output) -> Any:
    from contrastive_cli.core.config import nested, read_assignments

    assignments = read_assignments(sets)
    from contrastive_cli.services.configuration import resolve

    resolved = resolve(config=config, sets=assignments, flags=nested(given))
    if resolved.own_preset:
        output.note(f"preset {resolved.own_preset}")
    return resolved.config


def _start(config: Any, *, out: Path | None, overwrite: bool, output: Output, began: float) -> Session:
    from contrastive_cli.services.training.sessions import start_session

    with waiting(output) as work:
        session = start_session(config, out=out, overwrite=overwrite, progress=work.count, say=work.say, began=began)
    bad = session.setup.images.bad_files
    if bad:
        output.note(f"{counted(len(bad), 'unreadable file')} left out, first {bad[0].path}: {bad[0].reason}")
    return session


def _show_plan(config: Any, output: Output) -> None:
    from contrastive_cli.core.config import dump_yaml
    from contrastive_cli.services.training.forecast import plan_training

    with waiting(output) as work:
        plan = plan_training(config, say=work.say)
    facts = plan.to_dict()
    text = dump_yaml({"configuration": config.model_dump(mode="json")})
    text += "\n" + "\n".join(f"{key.replace('_', ' ')}: {value}" for key, value in facts.items() if value is not None)
    output.result({"configuration": config.model_dump(mode="json"), **facts}, text)


def _refuse_with_resume(**others: Any) -> None:
    extra = [f"--{key}" for key, value in others.items() if value]
    if extra:
        raise UsageError(f"--resume goes on in the run's own directory; {', '.join(extra)} cannot be given with it")

"""`clr pretrain`: train an encoder and keep it in a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.options import DataDir, Json, Labels, Layout, MaxBad, Quiet, Unlabeled
from contrastive_cli.cli.training import run_session
from contrastive_cli.cli.waiting import waiting
from contrastive_cli.core.choices import AskedPrecision
from contrastive_cli.core.clock import process_start
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.wording import counted

if TYPE_CHECKING:
    from contrastive_cli.core.runs import Run
    from contrastive_cli.services.training.sessions import Session

DATA, MODEL, OPTIMIZATION, RUN = "Data", "Model", "Optimization", "Run"


def pretrain(
    method: Annotated[
        str | None,
        typer.Option(help="Method, see `clr methods`, or FILE.py; simclr if not given.", rich_help_panel=MODEL),
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
        str | None, typer.Option(help="Dataset, see `clr datasets`; digits if not given.", rich_help_panel=DATA)
    ] = None,
    data_dir: DataDir = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the dataset when it is absent.", rich_help_panel=DATA)
    ] = False,
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
    seed: Annotated[
        int | None, typer.Option(help="Seed of everything random; 0 if not given.", rich_help_panel=RUN)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, mps; auto if not given.", rich_help_panel=RUN)
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="YAML file, or a preset's name (configs/).", rich_help_panel=RUN)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field, such as method.temperature=0.2; repeatable.", rich_help_panel=RUN),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run directory; runs/METHOD-DATASET-TIME-sSEED if not given.", rich_help_panel=RUN),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this interrupted run.", rich_help_panel=RUN)] = None,
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
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder; with no option at all, by SimCLR on the embedded handwritten digits.

    clr pretrain

    clr pretrain --dataset cifar10 --data-dir data --budget 15m

    clr pretrain --dataset folder --data-dir photos --epochs 50 --set method.temperature=0.2

    clr pretrain --dataset folder --data-dir photos --encoder resnet50 --weights IMAGENET1K_V2
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
        "train.precision": precision,
        "seed": seed,
        "device": device,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    if resume is not None:
        _refuse_with_resume(out=out, overwrite=overwrite, plan=plan)
        _go_on(resume, given, config=config, sets=set_ or [], output=output, began=began)
        return
    resolved = _resolve(given, config=config, sets=set_ or [], output=output)
    if plan:
        _show_plan(resolved, output)
        return
    session = _start(resolved, out=out, overwrite=overwrite, output=output, began=began)
    output.result(run_session(session, output), f"{session.run.path}")


def _path_of_run(name: str, weights: str | None) -> str:
    """The run that --from names, as weights."""
    if weights is not None:
        raise UsageError("--from names a run's weights, and --weights others", hint="leave one of them out")
    from contrastive_cli.core.runs import find_run

    return str(find_run(name).path.absolute())


def _go_on(
    path: Path, given: Mapping[str, Any], *, config: str | None, sets: list[str], output: Output, began: float
) -> None:
    """Resume a run; one that has finished, as it may have when it was killed, is only told of."""
    from contrastive_cli.core.runs import find_run

    run = find_run(str(path))
    manifest = run.manifest()
    if manifest.status == "finished" and not given and config is None and not sets:
        output.note("the run is finished already; --epochs N makes it longer")
        summary = {"run": str(run.path), "steps": manifest.total_steps, "seconds": round(manifest.seconds, 1)}
    else:
        summary = run_session(_resume(run, given, config=config, sets=sets, output=output, began=began), output)
    if manifest.parent is not None and manifest.method == "supervised":
        from contrastive_cli.cli.finetune import measure

        measure(run, summary, device=manifest.device, output=output)
        return
    output.result(summary, f"{run.path}")


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


def _resume(
    run: Run, given: Mapping[str, Any], *, config: str | None, sets: list[str], output: Output, began: float
) -> Session:
    from contrastive_cli.core.config import nested, read_assignments

    with run.locked():  # so that a run in use is refused at once
        pass
    assignments = read_assignments(sets)
    from contrastive_cli.services.training.resumption import Changes
    from contrastive_cli.services.training.sessions import resume_session

    changes = Changes(config=config, sets=assignments, flags=nested(given))
    with waiting(output) as work:
        session = resume_session(run, changes=changes, progress=work.count, say=work.say, began=began)
    for name in session.damaged:
        output.note(f"warning: {name} is damaged; going on from an older checkpoint")
    output.note(f"resuming {session.run.path} at step {session.state.step} of {session.total_steps}")
    return session


def _show_plan(config: Any, output: Output) -> None:
    from contrastive_cli.core.config import dump_yaml
    from contrastive_cli.services.training.forecast import plan_training

    with waiting(output) as work:
        plan = plan_training(config, say=work.say)
    facts = plan.to_dict()
    text = dump_yaml({"configuration": config.model_dump(mode="json")})
    text += "\n" + "\n".join(f"{key.replace('_', ' ')}: {value}" for key, value in facts.items())
    output.result({"configuration": config.model_dump(mode="json"), **facts}, text)


def _refuse_with_resume(**others: Any) -> None:
    extra = [f"--{key}" for key, value in others.items() if value]
    if extra:
        raise UsageError(f"--resume goes on in the run's own directory; {', '.join(extra)} cannot be given with it")

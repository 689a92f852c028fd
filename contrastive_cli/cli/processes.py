"""A command in several processes: started by torchrun, or here by `--processes`; one of them speaks for all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from contrastive_cli.core.errors import ClrError, DataError, RunError, TrainingError, UnsafeFileError, UsageError
from contrastive_cli.core.launched import place
from contrastive_cli.core.signals import Watchdog

PARALLEL = ("pretrain", "finetune", "embed", "nearest-neighbors", "knn")
LAUNCHER_GRACE = 60.0  # seconds: the processes below save what they have first
FOR_GOOD = (UsageError, DataError, UnsafeFileError, RunError, TrainingError)  # nothing to try again

PROCESSES_HELP = "Processes on this machine, one for each GPU or group of cores; torchrun starts them on several."


def enter_processes(processes: int | None) -> None:
    """Start so many processes of this command and end as they do; or be one of them, and meet the others.

    Raises:
        UsageError: If a launcher has started another number of processes.
        typer.Exit: In the process that started others, and where an earlier attempt has failed for good.
    """
    here = place()
    if here.size == 1:
        if processes is not None and processes > 1:
            raise typer.Exit(_launch(processes))
        return
    if processes not in (None, here.size):
        raise UsageError(f"--processes {processes} within {here.size} processes of a launcher", hint="leave it out")
    from contrastive_cli.engine.distributed import join
    from contrastive_cli.engine.job_store import refused

    code = refused()
    if code is not None:
        raise typer.Exit(code)
    join()


def begun_run() -> Path | None:
    """The run that an earlier attempt of the same launcher has begun: it is gone on with."""
    if place().size == 1:
        return None
    from contrastive_cli.engine.distributed import from_first
    from contrastive_cli.engine.job_store import recall
    from contrastive_cli.services.training.sessions import RUN_FACT

    path = from_first(lambda: recall(RUN_FACT))
    return None if path is None else Path(path)


def part_processes() -> bool:
    """The work in common is done; whether this process does what is left, alone."""
    if place().size == 1:
        return True
    from contrastive_cli.engine.distributed import leave

    leave()
    return place().rank == 0


def refuse_processes(arguments: list[str]) -> None:
    """Ask that a launcher has started a command that knows what to do with several processes.

    Raises:
        UsageError: If it does not.
    """
    command = next((word for word in arguments if not word.startswith("-")), "")
    if place().size > 1 and command not in PARALLEL:
        raise UsageError(
            f"`clr {command}` runs in one process, and {place().size} were started",
            hint=f"start it without a launcher; {', '.join(PARALLEL)} share their work",
        )


def last_word(error: ClrError) -> tuple[bool, int]:
    """Whether this process shows the error, and the exit code to end by."""
    try:
        alone = place().size == 1
    except UsageError:
        alone = True
    if alone:
        return True, error.exit_code
    from contrastive_cli.engine.distributed import PeerLostError
    from contrastive_cli.engine.job_store import end_of_others, speaks_last

    lost = isinstance(error, PeerLostError)
    if lost and (code := end_of_others()) is not None:
        return False, code
    for_good = isinstance(error, FOR_GOOD) and not lost
    return speaks_last(error.exit_code, for_good=for_good), error.exit_code


def _launch(processes: int) -> int:
    """Run this command line in so many processes by torch's own launcher; returns the first exit code."""
    import uuid

    os.environ.setdefault("LOGLEVEL", "CRITICAL")  # of the launcher: the processes speak for themselves
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    own = str(Path(__file__).parents[2])  # of this package, whatever lies where the command is given
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH"))))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    with Watchdog(grace=LAUNCHER_GRACE):
        try:
            elastic_launch(config, sys.executable)("-P", "-m", "contrastive_cli", *sys.argv[1:])
        except ChildFailedError as failed:
            return _code_of(failed.failures.values())
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
    return 0


def _code_of(failures: object) -> int:
    """Of the process that failed first, those before others that were killed."""
    codes = [failure.exitcode for failure in sorted(failures, key=lambda each: each.timestamp)]  # type: ignore[call-overload]
    said = [code for code in codes if 0 < code < 128]
    if said:
        return int(said[0])
    sys.stderr.write("error: a process was killed; its run goes on by `clr pretrain --resume`\n")
    return 128 - int(codes[0]) if codes and codes[0] < 0 else int(next(iter(codes), 1))

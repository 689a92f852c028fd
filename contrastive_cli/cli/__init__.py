"""The command line. One module a command: options in, a service called, results printed.

Nothing here imports torch at module level, so help and usage errors answer at once; commands import their service
when they run.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from contrastive_cli import __version__
from contrastive_cli.cli import (
    cache,
    datasets,
    doctor,
    embed,
    export,
    finetune,
    linear_eval,
    methods,
    nearest_neighbors,
    plot,
    pretrain,
    report,
    runs,
    similarity,
)
from contrastive_cli.cli.command_groups import WholeSentences
from contrastive_cli.cli.console import NotesHandler, show_error
from contrastive_cli.cli.help_text import GroupedCommand
from contrastive_cli.cli.processes import last_word, refuse_processes
from contrastive_cli.cli.suggestions import explain
from contrastive_cli.core.errors import ClrError, DataError, RunError, TrainingError, UsageError
from contrastive_cli.core.files import NO_SPACE, at_home
from contrastive_cli.core.launched import place
from contrastive_cli.core.notes import LOGGER
from contrastive_cli.core.own_code import blamed
from contrastive_cli.core.signals import Watchdog

READER_LEFT = 141  # as the shell says of a program that died by SIGPIPE


class _Commands(WholeSentences):
    """The commands, with `~` understood where a shell has left it, as in `--out=~/run`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return super().make_context(info_name, [_at_home(word) for word in args], parent, **extra)


def _at_home(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option.startswith("--") and value.startswith("~"):
        return f"{option}={at_home(Path(value))}"
    return str(at_home(Path(word))) if word.startswith("~") else word


app = typer.Typer(
    name="clr",
    cls=_Commands,
    help="Learn visual representations from images, prove that they help, and use them.",
    epilog="Exit codes: 0 ok, 1 a bug, 2 usage or configuration, 3 bad input data, 4 unsafe file refused, "
    "5 run directory, 6 training failed or an export differs, 130/143 after a signal with everything saved, 141 the "
    "reader left early.",
    rich_markup_mode=None,  # plain help costs no import of rich: half the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("pretrain")(pretrain.pretrain)
app.command("linear-eval")(linear_eval.linear_eval)
app.command("finetune")(finetune.finetune)
app.command("embed")(embed.embed)
app.command("nearest-neighbors")(nearest_neighbors.nearest_neighbors)
app.command("knn", help="The same as nearest-neighbors.")(nearest_neighbors.nearest_neighbors)
app.command("similarity")(similarity.similarity)
app.command("plot")(plot.plot)
app.command("export")(export.export)
app.command("report")(report.report)
app.add_typer(runs.runs, name="runs")
app.add_typer(datasets.datasets, name="datasets")
app.add_typer(cache.cache, name="cache")
app.command("methods")(methods.methods)
app.command("doctor")(doctor.doctor)
for registered in app.registered_commands:
    registered.cls = GroupedCommand


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Learn visual representations from images, prove that they help, and use them."""


def main() -> None:
    """Run the command line; every error ends as one line and its documented exit code."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by the caller
            setattr(sys, stream, Path(os.devnull).open("w"))  # noqa: SIM115 - it stays open to the end
        with contextlib.suppress(AttributeError):  # a stream of another kind, as of a notebook
            getattr(sys, stream).reconfigure(errors="backslashreplace")  # names that its encoding lacks
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _interrupt)
    Watchdog().__enter__()  # never left: threads that decode are waited for even after the last line
    arguments = sys.argv[1:] or ["--help"]
    as_json = "--json" in arguments
    _listen_only()
    if not {"--quiet", "-q"} & set(arguments):
        LOGGER.addHandler(NotesHandler())
        LOGGER.setLevel("INFO")
    status = _run(arguments, as_json=as_json)
    try:
        sys.stdout.flush()
    except OSError as error:  # what is left cannot be written by the interpreter at its end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            status = _end(_unwritable(error), as_json=as_json)
        elif status == 0:
            status = READER_LEFT
    sys.exit(status)


def run() -> NoReturn:
    """`clr` as a process: `main`, and then an end at once.

    By then everything is written and closed. The interpreter would go on to take torch apart while its threads still
    live, which takes part of a second and now and then ends in an abort.
    """
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        sys.stdout.flush()
    os._exit(status)


def _listen_only() -> None:
    """In all processes but the first of several, leave the streams to that one; an error is shown all the same."""
    if _listens():
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - it stays open to the end


def _listens() -> bool:
    try:
        return place().rank > 0
    except ClrError:  # which the command is going to show
        return False


def _run(arguments: list[str], *, as_json: bool) -> int:
    try:
        refuse_processes(arguments)
        status = app(arguments, prog_name="clr", standalone_mode=False)
    except ClrError as error:
        return _end(error, as_json=as_json)
    except typer.TyperException as error:
        message, meant = explain(error)
        hint = "`clr --help` and `clr COMMAND --help` show what is accepted"
        return _end(UsageError(message, hint=f"did you mean `{meant}`? {hint}" if meant else hint), as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer ends with 1, which is a bug here
            return READER_LEFT
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defense: a bug ends as one line too
        return _end(_explained(error), as_json=as_json)
    return status if isinstance(status, int) else 0


def _explained(error: Exception) -> ClrError:
    """What surroundings do to a program that is right; all else is a bug, whose traceback is kept."""
    said = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError | ImportError | OSError | RuntimeError) and _is_memory(error, said):
        return TrainingError(
            f"out of memory{': ' if said else ''}{said}",
            hint="close other programs or raise the limit (ulimit -v, the container's, the batch system's)",
        )
    own = blamed(error)
    if own is not None:
        return TrainingError(f"{own}: {type(error).__name__}: {said}", hint="the fault is in this file, not in clr")
    if isinstance(error, ImportError) and not str(error.name or "").startswith("contrastive_cli"):
        return UsageError(
            f"a package that clr needs cannot be loaded: {said}",
            hint="install it again, in one environment with clr; `clr doctor` shows what is there",
        )
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return _unwritable(error)
    if isinstance(error, OSError) and isinstance(error.filename, str):  # a name that is too long, a folder shut
        return DataError(f"cannot use {error.filename[:200]!r}: {error.strerror}", path=error.filename)
    return ClrError(f"{type(error).__name__}: {error}", hint=_keep_traceback())


def _is_memory(error: Exception, said: str) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return any(
        sign in said for sign in ("failed to map segment", "allocate memory", "bad_alloc", "can't start new thread")
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    _end_an_import_of_torch(number, frame)
    raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> None:
    _end_an_import_of_torch(number, frame)
    sys.exit(128 + number)  # what is being written is cleared away, unlike at the death by the signal itself


def _end_an_import_of_torch(number: int, frame: FrameType | None) -> None:
    """End at once while torch is imported: nothing is begun yet, and an exception through its C++ ends in an abort."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch" and frame.f_code.co_name == "<module>":
            os._exit(128 + number)
        frame = frame.f_back


def _end(error: ClrError, *, as_json: bool) -> int:
    speaks, code = last_word(error)
    if speaks:
        if sys.stderr is not sys.__stderr__ and _listens():
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        with contextlib.suppress(OSError):  # there may be nowhere to say it
            show_error(error, as_json=as_json)
    return code


def _unwritable(error: OSError) -> RunError:
    return RunError(f"cannot write the output: {error.strerror or error}", hint="free some space and repeat")


def _keep_traceback() -> str:
    try:
        with tempfile.NamedTemporaryFile("w", prefix="clr-crash-", suffix=".log", delete=False) as file:
            file.write(traceback.format_exc())
    except OSError:
        return "this is a bug in clr"
    return f"this is a bug in clr; the traceback is in {Path(file.name)}"

"""Trackio: its local database, where TRACKIO_DIR says or in its cache; `trackio show` opens it. The extra `trackio`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import UsageError
from contrastive_cli.services.trackers.tracker import PROJECT, Subject, Tracker, missing


@contextlib.contextmanager
def opened(subject: Subject, *, goes_on: bool) -> Iterator[Tracker]:
    """Begin the run, or take it up again under its name and key.

    Raises:
        UsageError: If the extra is not installed, or trackio refuses.
    """
    del goes_on
    try:
        import trackio
    except ImportError:
        raise missing("trackio") from None
    errors = (OSError, ValueError, RuntimeError)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it greets people there, and results alone belong there
            run: Any = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
                name=f"{subject.name}-{subject.key[:6]}",
                config=dict(subject.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
    except errors as error:
        raise UsageError(f"trackio cannot begin: {' '.join(str(error).split())[:200]}") from error

    def scalars(values: Mapping[str, float], step: int) -> None:
        run.log(dict(values), step=step)

    def picture(name: str, file: Path, step: int) -> None:
        run.log({name: trackio.Image(file)}, step=step)

    try:
        yield Tracker(name="trackio", scalars=scalars, results=scalars, picture=picture, errors=errors)
    finally:
        with contextlib.redirect_stdout(sys.stderr):
            end: Any = trackio.finish
            end()  # and not run.finish(), which is done again, aloud, when the process ends

"""Weights & Biases: a folder `wandb/` in the working directory, or where WANDB_DIR says. The extra `wandb`.

Not in the run, which nothing may lead out of: wandb links its folder to its own cache.

It is offline unless WANDB_MODE says otherwise or a key is there (`wandb login`): nothing is asked, nothing is sent
unawares. `wandb sync FOLDER` sends an offline run.
"""

from __future__ import annotations

import contextlib
import netrc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import UsageError
from contrastive_cli.services.trackers.tracker import PROJECT, Subject, Tracker, missing


@contextlib.contextmanager
def opened(subject: Subject, *, goes_on: bool) -> Iterator[Tracker]:
    """Begin the run, or take it up again under its key.

    Raises:
        UsageError: If the extra is not installed, or wandb refuses.
    """
    del goes_on
    try:
        import wandb
    except ImportError:
        raise missing("wandb") from None
    try:
        run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=subject.key,
            name=subject.name,
            resume="allow",
            mode=_mode(),
            config=dict(subject.config),
            settings=wandb.Settings(silent=True, console="off", save_code=False, disable_git=True),
        )
    except wandb.Error as error:
        raise UsageError(f"wandb cannot begin: {' '.join(str(error).split())[:200]}") from error

    def scalars(values: Mapping[str, float], step: int) -> None:
        run.log(dict(values), step=step)

    def picture(name: str, file: Path, step: int) -> None:
        run.log({name: wandb.Image(str(file))}, step=step)

    try:
        yield Tracker(
            name="wandb", scalars=scalars, results=scalars, picture=picture, errors=(wandb.Error, OSError, ValueError)
        )
    finally:
        run.finish()


def _mode() -> Any:
    asked = os.environ.get("WANDB_MODE")
    return asked or ("online" if os.environ.get("WANDB_API_KEY") or _has_logged_in() else "offline")


def _has_logged_in() -> bool:
    """Whether `wandb login` has left a key on this machine."""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return any("wandb" in host for host in netrc.netrc().hosts)
    return False

"""Metrics for TensorBoard, for those who ask: the extra `tensorboard`, and `--set train.tensorboard=true`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.runs import Run


class Board:
    """Scalars by step; without a writer nothing is written."""

    def __init__(self, writer: Any | None) -> None:
        self._writer = writer

    def write(self, line: Mapping[str, float]) -> None:
        """Write every number of a metrics record at its step."""
        if self._writer is None:
            return
        for name, value in line.items():
            if name != "step":
                self._writer.add_scalar(name, value, global_step=int(line["step"]))


@contextlib.contextmanager
def open_board(run: Run, wanted: bool, *, first_step: int) -> Iterator[Board]:
    """Write into `tensorboard/` of the run if wanted; steps after `first_step` of an earlier attempt are purged.

    Raises:
        UsageError: If the extra is not installed.
    """
    if not wanted:
        yield Board(None)
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        hint = "pip install 'contrastive-cli[tensorboard]'"
        raise UsageError("train.tensorboard needs the extra", hint=hint) from None
    with SummaryWriter(str(run.path / "tensorboard"), purge_step=first_step + 1) as writer:
        yield Board(writer)

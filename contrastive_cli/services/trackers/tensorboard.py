"""TensorBoard: event files in `tensorboard/` of the run. The extra `tensorboard`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from contrastive_cli.core.config import dump_yaml
from contrastive_cli.services.trackers.tracker import Subject, Tracker, missing


@contextlib.contextmanager
def opened(subject: Subject, *, goes_on: bool) -> Iterator[Tracker]:
    """Write beside what is there; where a training goes on, later steps of an earlier attempt are purged.

    Raises:
        UsageError: If the extra is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing("tensorboard") from None
    purged = subject.step + 1 if goes_on else None
    with SummaryWriter(str(subject.path / "tensorboard"), purge_step=purged) as writer:
        if goes_on:
            writer.add_text("config", f"```yaml\n{dump_yaml(subject.config)}```", global_step=subject.step)

        def scalars(values: Mapping[str, float], step: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, global_step=step)

        def picture(name: str, file: Path, step: int) -> None:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB"))
            writer.add_image(name, pixels, global_step=step, dataformats="HWC")

        yield Tracker(name="tensorboard", scalars=scalars, results=scalars, picture=picture)

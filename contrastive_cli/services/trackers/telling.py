"""The trackers of a run, opened together and told together; one that fails is left out, and the training goes on."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastive_cli.core.choices import TrackerName
from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.notes import note
from contrastive_cli.core.runs import Run
from contrastive_cli.services.configuration import TrainConfig
from contrastive_cli.services.trackers.tracker import Subject, Tracker


class Trackers:
    """Those that still listen."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._listening = list(trackers)

    def scalars(self, line: Mapping[str, float]) -> None:
        """Tell the numbers of a metrics record, at its step."""
        values = {name: value for name, value in line.items() if name != "step"}
        self._tell(lambda tracker: tracker.scalars(values, int(line["step"])))

    def results(self, values: Mapping[str, float], *, step: int) -> None:
        """Tell numbers of the whole run."""
        if values:
            self._tell(lambda tracker: tracker.results(values, step))

    def picture(self, name: str, file: Path, *, step: int) -> None:
        """Show an image file."""
        self._tell(lambda tracker: tracker.picture(name, file, step))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for tracker in list(self._listening):
            try:
                what(tracker)
            except tracker.errors as error:
                self._listening.remove(tracker)
                note(f"warning: {tracker.name} is told nothing more: {' '.join(str(error).split())[:200]}")


@contextlib.contextmanager
def open_trackers(run: Run, names: Sequence[TrackerName], *, step: int, goes_on: bool) -> Iterator[Trackers]:
    """Open the trackers of a run.

    Args:
        run: It has its configuration and manifest already.
        names: Of them; none is fine.
        step: How far the run is.
        goes_on: Whether steps follow, so that those of an earlier attempt are of no use.

    Raises:
        UsageError: If one is not installed, or refuses.
    """
    with contextlib.ExitStack() as stack:
        subject = _subject(run, step=step) if names else None
        found = []
        for name in dict.fromkeys(names):
            adapter = importlib.import_module(f"contrastive_cli.services.trackers.{name}")
            found.append(stack.enter_context(adapter.opened(subject, goes_on=goes_on)))
        yield Trackers(found)


def names_of(train: TrainConfig) -> tuple[TrackerName, ...]:
    """Those of `train.trackers`, and of `train.tensorboard`, which is older."""
    return (*train.trackers, *(("tensorboard",) if train.tensorboard else ()))


def publish(run: Run, names: Sequence[TrackerName], files: Sequence[Path]) -> None:
    """Tell the trackers of a run what was measured or drawn after its training: `.json` and `.png` files.

    Raises:
        UsageError: If a tracker is not installed, or refuses.
    """
    step = run.manifest().step
    with open_trackers(run, names, step=step, goes_on=False) as trackers:
        for file in files:
            if file.suffix == ".png":
                trackers.picture(f"plots/{file.stem}", file, step=step)
            elif file.suffix == ".json":
                trackers.results(numbers_of(file), step=step)


def numbers_of(file: Path) -> dict[str, float]:
    """The accuracies of a result file, by names such as `eval/linear-digits/pretrained-linear-0.1`."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        found: dict[str, Any] = json.loads(file.read_bytes())
        head = f"eval/{file.stem}"
        if "rows" in found:
            return {
                f"{head}/{row['features']}-{row['head']}-{float(row['label_fraction']):g}": float(row["accuracy"])
                for row in found["rows"]
            }
        return {f"{head}/{key}": float(value) for key, value in found.items() if type(value) in (int, float)}
    return {}


def _subject(run: Run, *, step: int) -> Subject:
    manifest = run.manifest()
    key = hashlib.sha256(f"{run.name} {manifest.started}".encode()).hexdigest()[:12]
    config: Mapping[str, Any] = {}
    with contextlib.suppress(ClrError):
        config = run.config()
    return Subject(path=run.path, key=key, step=step, config=dict(_flat(config)))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value

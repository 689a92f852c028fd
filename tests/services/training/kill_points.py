"""Trainings that are killed at a chosen file operation and then resumed, each in a forked process.

    python kill_points.py METHOD FOLDER (all | POINT ...) [-- SETTING ...]

Every write, fsync, rename, unlink and mkdir of the training is a point; a write that is hit leaves half of its bytes.
The resumed run is killed too, at a drawn point of its own, and resumed again.
Prints one JSON object: how many points there are, and for each one how its resumed run ended ("equal" is right).
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from contrastive_cli.core.config import read_assignments
from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.runs import Run
from contrastive_cli.engine.checkpoint import load_checkpoint
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import resume_session, start_session

TIMINGS = {"seconds", "views_per_second"}
ENCODER = ["encoder.name=resnet9", "encoder.width=4", "encoder.embedding_dim=16"]
SETTINGS = [
    "dataset.name=digits",
    "train.batch_size=32",
    "train.epochs=0.1",
    "train.save_every=1e-9",
    "train.evaluations=1",
]
SETTINGS += ["train.precision=fp32", "device=cpu"]


class Counter:
    """Counts the points and kills the process at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.points, self.fatal = 0, fatal

    def hit(self) -> bool:
        """Whether this point is the fatal one."""
        self.points += 1
        return self.points == self.fatal

    def install(self) -> None:
        """Put the counter before every operation of this process on files."""
        for name in ("fsync", "replace", "rename", "unlink", "remove", "mkdir"):
            setattr(os, name, self._guarded(getattr(os, name)))
        plain_open = io.open

        def counting_open(file: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
            opened = plain_open(file, mode, *arguments, **keywords)
            return opened if mode in ("r", "rb") else Written(opened, self)

        io.open = counting_open

    def _guarded(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **keywords: Any) -> Any:
            if self.hit():
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **keywords)

        return guarded


class Written:
    """A file whose writes are points."""

    def __init__(self, file: Any, counter: Counter) -> None:
        self.file, self.counter = file, counter

    def write(self, content: bytes) -> int:
        """Write all of it, or half of it and die."""
        if self.counter.hit():
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return int(self.file.write(content))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def start(method: str, settings: list[str], folder: Path) -> None:
    """A whole training."""
    encoder = [] if method == "autodecoder" else ENCODER
    sets = read_assignments([*SETTINGS, *encoder, f"method.name={method}", *settings])
    train(start_session(resolve(config=None, sets=sets, flags={}).config, out=folder, overwrite=True))


def train(session: Any) -> None:
    """To its end."""
    for _ in train_session(session):
        pass


def resume(method: str, settings: list[str], folder: Path) -> None:
    """Go on; a run that was killed before it was one has nothing to lose and is started anew."""
    if not (folder / "manifest.json").exists():
        start(method, settings, folder)
    elif Run(folder).manifest().status != "finished":  # it can be killed after its last word
        train(resume_session(Run(folder)))


def compare(whole: Path, resumed: Path) -> str:
    """What is different in the resumed run, or "equal"."""
    if lines(whole) != lines(resumed):
        return "other metrics"
    if Run(resumed).manifest().status != "finished":
        return "not finished"
    first, second = load_checkpoint(Run(whole)).state, load_checkpoint(Run(resumed)).state
    for part in ("step", "method", "optimizer", "loss_sum", "loss_count", "torch_rng"):
        if not same(first[part], second[part]):
            return f"other {part}"
    left = [str(file) for file in resumed.rglob("*.tmp-clr")]
    return f"left over: {left}" if left else "equal"


def lines(folder: Path) -> list[dict[str, float]]:
    """The metrics without times."""
    parsed = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in parsed]


def same(one: Any, two: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run the work in a child: minus the signal that ended it, or its exit code, and what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said, code = json.dumps(work()).encode(), 0
        except ClrError as error:
            said, code = json.dumps(f"error {error.exit_code}: {error.message}").encode(), 1
        except BaseException:  # noqa: BLE001 - a child must not go on with the parent's work
            said, code = json.dumps(traceback.format_exc()).encode(), 1
        os.write(writing, said)
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), json.loads(said) if said else None


def counted(work: Callable[[], None], fatal: int | None) -> int:
    """Do the work, killed at a point or not; returns the points."""
    counter = Counter(fatal)
    counter.install()
    work()
    return counter.points


def main() -> None:
    """Kill at every point asked for and print how it went."""
    method, folder, *rest = sys.argv[1:]
    points, settings = (rest[: rest.index("--")], rest[rest.index("--") + 1 :]) if "--" in rest else (rest, [])
    start(method, settings, Path(folder) / "warm-up")  # what it imports, no child has to import again
    whole = Path(folder) / "whole"
    code, total = forked(lambda: counted(lambda: start(method, settings, whole), None))
    if code != 0:
        sys.exit(str(total))
    chosen = range(1, total + 1) if points == ["all"] else [1 + int(point) % total for point in points]
    ended: dict[int, str] = {}
    for point in chosen:
        run = Path(folder) / f"run-{point}"
        code, said = forked(lambda run=run, point=point: counted(lambda: start(method, settings, run), point))  # type: ignore[misc]
        if code != -signal.SIGKILL:
            ended[point] = f"was not killed: {said}"
            continue
        second = random.Random(point).randint(1, total)
        code, said = forked(lambda run=run, second=second: counted(lambda: resume(method, settings, run), second))  # type: ignore[misc]
        if code == -signal.SIGKILL:
            code, said = forked(lambda run=run: resume(method, settings, run))  # type: ignore[misc]
        ended[point] = str(forked(lambda run=run: compare(whole, run))[1]) if code == 0 else f"resume: {said}"  # type: ignore[misc]
    print(json.dumps({"points": total, "ended": ended}))


if __name__ == "__main__":
    main()

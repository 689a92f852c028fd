"""A training as people see it: what starts, how it goes, how it ended. Pretraining and finetuning share it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from contrastive_cli.cli.console import Output, clock_time, progress_bar, shows_bars
from contrastive_cli.cli.tracking import show_training
from contrastive_cli.cli.waiting import Heartbeat
from contrastive_cli.core.wording import counted

if TYPE_CHECKING:
    from contrastive_cli.services.training.loop import Status
    from contrastive_cli.services.training.sessions import Session

LINES = ("aligned", "chance")  # of the loss, where a method knows them
LINE_SECONDS = 30.0
ROOMY = 100  # columns, from which on a bar says more than the most important
STEP_SECONDS = 10.0  # a step or a look at the embedding that takes longer is said
COLLAPSED_RANK, COLLAPSED_SPREAD = 1.5, 0.5  # an embedding of one number has rank 1 and a large spread


def run_session(session: Session, output: Output) -> dict[str, Any]:
    """Train to the end, showing how it goes; returns what `--json` prints."""
    from contrastive_cli.services.training.loop import train_session

    for notice in session.notices:
        output.note(notice)
    setup = session.setup
    encoder = setup.config.encoder.name.replace("none", "no encoder")
    output.note(
        f"{setup.config.method_name} on {counted(setup.num_samples, 'image')} of {setup.images.name}: "
        f"{encoder}, {counted(session.total_steps, 'step')} of {setup.config.batch_size}, "
        f"{setup.device}, {setup.precision} -> {session.run.path}"
    )
    if setup.weights is not None:
        output.note(f"{encoder} begins with {setup.weights.describe()}")
        output.note(f"learning rate {setup.config.optim.lr:g}; preprocessing of {setup.weights.preprocessing}")
    if setup.neighbors is not None:
        output.note(setup.neighbors.describe())
    if setup.config.train.plan:
        output.note("the steps are those of the plan in its configuration; no clock is asked")
    for line in _legend(session):
        output.note(line)
    last: Mapping[str, float] = {}
    final = None
    planned = session.total_steps
    with _display(session, output) as show:
        for status in train_session(session):
            last = {**last, **(status.line or {})}
            show(status, last)
            final = status
    if session.clock is not None:
        taken = session.clock.passed(time.monotonic())
        output.note(
            f"took {taken:.0f} s of {session.clock.seconds:.0f} s: {session.total_steps} steps, {planned} planned"
        )
    seconds = final.seconds if final else session.state.seconds
    summary = {
        "run": str(session.run.path),
        "steps": session.total_steps,
        "seconds": round(seconds, 1),
        "views_per_second": last.get("views_per_second"),
        "loss": last.get("train/loss"),
        "knn": last.get("online/knn"),
    }
    show_training(session.run, output)
    output.note(_collapse_warning(last))
    return summary


class _display:  # noqa: N801 - a context manager used like a function
    """A bar on a terminal; elsewhere a line at every look at the embedding, and now and then between two of them."""

    def __init__(self, session: Session, output: Output) -> None:
        self.total, self.output = session.total_steps, output
        self.bar = progress_bar(estimates=False) if shows_bars() and not output.quiet else None
        self.started = session.state.step
        self.heartbeat = Heartbeat(output)
        self.shown = time.monotonic()
        from contrastive_cli.services.training.time_left import TimeLeft

        self.left = TimeLeft(self.shown)
        self.session = session

    def __enter__(self) -> Any:
        if self.bar is not None:
            self.bar.__enter__()
            self.task = self.bar.add_task(
                "training", total=self.total, completed=self.started, note="", left=clock_time(None)
            )
        else:
            self.heartbeat.__enter__()
            self.heartbeat.say("the first step")
        return self.show

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.__exit__(*error)
        else:
            self.heartbeat.__exit__(*error)

    def show(self, status: Status, last: Mapping[str, float]) -> None:
        ended = status.step == status.total_steps
        looked = status.line is not None and "online/spread" in status.line
        now = time.monotonic()
        self.left.stepped(now, looked=looked)
        left = self._seconds_left(status, now=now)
        if self.bar is not None:
            text = "finishing" if ended else "training"
            note = _brief(status, last)
            if self.bar.console.width >= ROOMY:
                note += f"  epoch {status.epoch:.1f}"
            self.bar.update(
                self.task,
                description=text,
                completed=status.step,
                total=status.total_steps,
                note=note,
                left=clock_time(left),
            )
            return
        if looked or ended or now - self.shown >= LINE_SECONDS:
            self.output.note(
                f"step {status.step}/{status.total_steps}  {_describe(status, last)}  {clock_time(left)} left"
            )
            self.shown = now
        if ended:
            self.heartbeat.say("finishing the run")
        else:
            self.heartbeat.say(f"step {status.step + 1} of {status.total_steps}", after=STEP_SECONDS)

    def _seconds_left(self, status: Status, *, now: float) -> float | None:
        """By the clock of a budget, which the steps follow; else by how long steps and looks took so far."""
        clock = self.session.clock
        if clock is not None:
            return clock.ends_in(now)
        from contrastive_cli.services.training.cadence import Cadence

        config = self.session.setup.config.train
        cadence = Cadence.of(self.session.pace, evaluations=config.evaluations, save_every=config.save_every)
        looks = config.evaluations - cadence.evaluated(status.step, self.session.pace)
        return self.left.seconds(steps=status.total_steps - status.step, looks=looks)


def _brief(status: Status, last: Mapping[str, float]) -> str:
    text = f"{status.views_per_second:.0f} views/s"
    if "train/loss" in last:
        text += f"  loss {last['train/loss']:.2f}"
    if "online/knn" in last:
        text += f"  kNN {100 * last['online/knn']:.1f} %"
    return text


def _describe(status: Status, last: Mapping[str, float]) -> str:
    parts = [f"epoch {status.epoch:.1f}", f"{status.views_per_second:.0f} views/s"]
    if "train/loss" in last:
        loss = f"loss {last['train/loss']:.3f}"
        known = [f"{last[f'train/loss_{line}']:.2f} {line}" for line in LINES if f"train/loss_{line}" in last]
        parts.append(f"{loss} ({', '.join(known)})" if known else loss)
    if "online/knn" in last:
        parts.append(f"kNN {100 * last['online/knn']:.1f} %")
    if "online/effective_rank" in last:
        parts.append(f"rank {last['online/effective_rank']:.0f}")
    return "  ".join(parts)


def _legend(session: Session) -> list[str]:
    """What the words of the lines to come mean, a line each."""
    labeled = session.setup.images.has_labels
    words = ["loss falls from chance (nothing learned) toward aligned (perfect), where a method knows these"]
    if session.setup.config.train.evaluations:
        if labeled:
            words.append("kNN is the part of training images whose 20 nearest neighbors vote for their class")
        words.append("rank is the number of dimensions that the embedding fills")
    return words


def _collapse_warning(last: Mapping[str, float]) -> str:
    if last.get("online/effective_rank", 99.0) < COLLAPSED_RANK and last["online/spread"] < COLLAPSED_SPREAD:
        return "warning: the embedding has collapsed (all images lie in one place); lower --lr or raise the batch size"
    return "done"

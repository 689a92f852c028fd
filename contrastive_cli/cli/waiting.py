"""What a command says while it works: a bar on a terminal, elsewhere a line for whatever takes longer than a moment."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from contrastive_cli.cli.console import Output, plain_counter, progress_bar
from contrastive_cli.core.types import CountProgress, Say

QUIET_SECONDS = 1.5  # what takes no longer is not worth a line
AGAIN_SECONDS = 15.0


class Waiting:
    """The work at hand, as `say` named it, and how far it is, as `count` is told."""

    def __init__(self, say: Say, count: CountProgress) -> None:
        self.say, self.count = say, count


@contextlib.contextmanager
def waiting(output: Output, *, counted: str = "decoding images") -> Iterator[Waiting]:
    """While entered, nothing is silent for more than about two seconds; `counted` is what lines count in a log."""
    if output.quiet:
        yield Waiting(lambda text: None, lambda done, total: None)
    elif sys.stderr.isatty():
        with progress_bar() as bar:
            task = bar.add_task("starting", total=None, note="")
            yield Waiting(
                lambda text: bar.reset(task, description=text, total=None),
                lambda done, total: bar.update(task, completed=done, total=total),
            )
    else:
        heartbeat = Heartbeat(output)
        counter = plain_counter(counted)

        def count(done: int, total: int) -> None:
            heartbeat.moved()
            counter(done, total)

        with heartbeat:
            yield Waiting(heartbeat.say, count)


class Heartbeat:
    """Prints what is being done once it has taken a moment, and again every `AGAIN_SECONDS` while nothing moves."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._text, self._began, self._due, self._first = "", 0.0, float("inf"), True
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def say(self, text: str, *, after: float = QUIET_SECONDS) -> None:
        """Another piece of work begins, worth a line once it has taken `after` seconds."""
        with self._lock:
            self._text, self._began, self._first = text, time.monotonic(), True
            self._due = self._began + after

    def moved(self) -> None:
        """The work speaks for itself."""
        with self._lock:
            self._due = max(self._due, time.monotonic() + AGAIN_SECONDS)

    def _beat(self) -> None:
        while not self._over.wait(0.2):
            with self._lock:
                now = time.monotonic()
                if now < self._due:
                    continue
                text = self._text if self._first else f"{self._text}: {now - self._began:.0f} s so far"
                self._due, self._first = now + AGAIN_SECONDS, False
            self._output.note(text)

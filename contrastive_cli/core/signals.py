"""SIGINT and SIGTERM as a flag that a loop asks for, and an end within seconds whatever the program is doing.

Python runs its handlers between two lines of Python only, and one line may compute for minutes. So a thread is woken by
the signal itself, waits a little for the program to end in its own way, and then ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

GRACE_SECONDS = 4.0
NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Watchdog:
    """While entered, the process ends at most `GRACE_SECONDS` after SIGINT or SIGTERM, by the exit code of the signal.

    Args:
        last_words: Called before such an end, in a thread of its own; what it returns is written to stderr.
        grace: Seconds until it comes, if not `GRACE_SECONDS`.
    """

    def __init__(self, last_words: Callable[[], str] = lambda: "", *, grace: float | None = None) -> None:
        self._last_words = last_words
        self._grace = grace
        self._over = threading.Event()
        self._ends: tuple[int, int] | None = None
        self._previous = -1

    def __enter__(self) -> Watchdog:
        if threading.current_thread() is threading.main_thread():
            reading, writing = self._ends = os.pipe()
            os.set_blocking(writing, False)
            self._previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(reading,), name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._ends is not None:
            signal.set_wakeup_fd(self._previous)
            os.close(self._ends[1])  # the thread reads the end, and closes the other one
            self._ends = None

    def _watch(self, reading: int) -> None:
        while number := os.read(reading, 1):
            if number[0] in NUMBERS and not self._over.wait(GRACE_SECONDS if self._grace is None else self._grace):
                with contextlib.suppress(Exception):  # nothing may keep the process alive now
                    _write_last(self._last_words())
                os._exit(128 + number[0])
        os.close(reading)


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only sets `received`; the second has its usual effect.

    Args:
        last_words: See `Watchdog`, which this is too.
    """

    def __init__(self, last_words: Callable[[], str] = lambda: "") -> None:
        self.received: int | None = None
        self._watchdog = Watchdog(last_words)
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                self._previous[number] = signal.signal(number, self._receive)
        self._watchdog.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.__exit__(kind, error, trace)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for known, handler in self._previous.items():  # a shell starts background jobs with SIGINT ignored
            signal.signal(known, signal.SIG_DFL if handler == signal.SIG_IGN else handler)


def _write_last(text: str) -> None:
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # a progress bar has hidden it
    sys.stderr.write(cursor + text)
    sys.stderr.flush()

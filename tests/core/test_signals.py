"""A signal ends a process within seconds, whatever it computes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# One line of Python that computes for a minute: no handler runs before its end.
BUSY = """
import hashlib, signal, sys
from contrastive_cli.core import signals
signals.GRACE_SECONDS = 0.5
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as the command line does
with {guard}:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
"""


def end_of(code: str, number: signal.Signals) -> tuple[int, float, str]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(number)
    err = process.communicate(timeout=30)[1]
    return process.returncode, time.monotonic() - started, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    "guard", ["signals.Watchdog(lambda: 'last words')", "signals.StopSignals(lambda: 'last words')"]
)
def test_watchdog__ends_what_does_not_hear(guard: str, number: signal.Signals, code: int) -> None:
    returned, seconds, err = end_of(BUSY.format(guard=guard), number)
    assert returned == code
    assert seconds < 5
    assert err == "last words"


def test_watchdog__last_words_that_fail_keep_nothing_alive() -> None:
    returned, _, err = end_of(BUSY.format(guard="signals.Watchdog(lambda: 1 / 0)"), signal.SIGTERM)
    assert (returned, err) == (143, "")


def test_stop_signals__what_hears_in_time_is_left_alone(tmp_path: Path) -> None:
    code = """
import time
from contrastive_cli.core import signals
signals.GRACE_SECONDS = 1.0
with signals.StopSignals(lambda: "last words") as stop:
    print("ready", flush=True)
    while stop.received is None:
        time.sleep(0.01)
time.sleep(1.5)
"""
    returned, _, err = end_of(code, signal.SIGTERM)
    assert (returned, err) == (0, "")

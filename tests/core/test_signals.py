from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from contrastive_cli.core.signals import StopSignals

LOOP = """
import sys, time
from contrastive_cli.core.signals import StopSignals
with StopSignals() as signals:
    print("ready", flush=True)
    while signals.received is None:
        time.sleep(0.002)
    print("received", signals.received, flush=True)
    if sys.argv[1] == "stay":
        time.sleep(30)
print("left", flush=True)
"""


IGNORE = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); exec(sys.argv.pop(1))"


def start(behavior: str, *, ignored: bool = False) -> subprocess.Popen[str]:
    code = [IGNORE, LOOP] if ignored else [f"import signal; signal.signal(2, signal.default_int_handler)\n{LOOP}"]
    return subprocess.Popen(
        [sys.executable, "-c", *code, behavior], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signals__the_first_only_sets_the_flag(number: signal.Signals) -> None:
    with start("leave") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, errors = process.communicate(timeout=10)
    assert out == f"received {int(number)}\nleft\n"
    assert errors == ""
    assert process.returncode == 0


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signals__the_second_ends_the_process(number: signal.Signals, ignored: bool) -> None:
    with start("stay", ignored=ignored) as process:  # ignored as in `clr pretrain &` of a script
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "received 2\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)
    assert "left" not in out
    assert process.returncode == -number


def test_stop_signals__handlers_come_back() -> None:
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        check_handlers()
    finally:
        signal.signal(signal.SIGINT, inherited)


def check_handlers() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as signals:
        assert signal.getsignal(signal.SIGINT) not in before
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_stop_signals__outside_the_main_thread_does_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with StopSignals() as signals:
            seen.extend([signals.received, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, before]

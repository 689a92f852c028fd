"""Small wrong changes to the code, one at a time: do the tests nearest to each notice it?

    python tests/mutants/kill_mutants.py            all of them; `make mutants` does the same
    python tests/mutants/kill_mutants.py B6 W5      some, by name
    python tests/mutants/kill_mutants.py --list

The mutants are data: `mutants.toml` has a table for each, with its name, what it does wrong, the file of the package,
the old text, the new text, and the tests to run. A mutant is applied in a temporary copy of package and tests, never in
the working tree. First the named tests run on the unchanged copy, where they must pass: a test that always fails
notices everything. Then each mutant is applied, its tests run to the first failure, and the file is put back.

A mutant is noticed if a test fails or does not end within `TIMEOUT` seconds. If nothing could be tested (no such test,
a file that does not import), the program ends with 2. Survivors and the score are printed; the exit status is 1 if less
than 95 % were noticed, or if the unchanged code fails. Each run is a fork of this process, which has imported torch and
the like once: that is most of the time of a short test.

To add one: append a table to `mutants.toml`. The old text must occur exactly once in its file, which
`test_mutant_list.py` holds, so a line that is rewritten takes its mutant with it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")
COPIED = ("contrastive_cli", "tests", "configs", "pyproject.toml")
IMPORTED = (
    "torch",
    "torchvision.transforms.v2",
    "scipy.stats",
    "sklearn.linear_model",
    "PIL.Image",
    "pydantic",
    "pytest",
)
TIMEOUT = 600
ENOUGH = 0.95
PASSED, FAILED = 0, 1  # exit statuses of pytest


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """A wrong change of one file, and the tests that should notice it.

    Attributes:
        name: Short and unique.
        what: What goes wrong, in a few words.
        file: Relative to the package.
        old: Text that occurs exactly once in the file.
        new: What takes its place.
        tests: Files or node ids, relative to the repository.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The text of the file with the change.

        Raises:
            ValueError: If the old text does not occur exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"mutant {self.name}: its old text occurs {count} times in {self.file}, not once")
        return text.replace(self.old, self.new)


def read_mutants(file: Path = LIST) -> list[Mutant]:
    """The mutants of the list, in its order."""
    tables = tomllib.loads(file.read_text())["mutant"]
    return [Mutant(**{**table, "tests": tuple(table["tests"])}) for table in tables]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Tests that run in a copy, with a mutant or without."""

    mutant: Mutant | None
    tests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Whether the tests of a trial passed, and after how many seconds."""

    passed: bool
    seconds: float


def make_copy(root: Path) -> Path:
    """Copy what the tests need into a folder that is not there yet."""
    root.mkdir()
    for name in COPIED:
        source, target = REPOSITORY / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return root


@contextlib.contextmanager
def applied(mutant: Mutant | None, root: Path) -> Iterator[None]:
    """Have the mutant in a copy for a while."""
    if mutant is None:
        yield
        return
    file = root / "contrastive_cli" / mutant.file
    whole = file.read_text()
    file.write_text(mutant.applied(whole))
    try:
        yield
    finally:
        file.write_text(whole)


def fork_tests(root: Path, tests: Sequence[str]) -> int:
    """Run tests in a copy, in a child process whose words go to `said.txt` there; returns its number."""
    child = os.fork()
    if child:
        return child
    status = 3
    try:
        os.setpgid(0, 0)  # what the tests start ends with them
        with (root / "said.txt").open("w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        os.chdir(root)
        sys.path[0] = str(root)  # before the checkout, wherever that is installed
        # Bytecode is told from its source by size and time in seconds: mutants within a second could be mixed up.
        os.environ.update(PYTHONPATH=str(root), PYTHONDONTWRITEBYTECODE="1")
        sys.dont_write_bytecode = True
        import pytest

        status = int(pytest.main(["-n", "0", "-x", "-q", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(status)


def wait_for(child: int, *, seconds: float) -> int | None:
    """The exit status of a child; None if it had to be ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run_trial(trial: Trial, root: Path) -> Outcome:
    """Run the tests of a trial in a copy.

    Raises:
        RuntimeError: If nothing could be tested.
    """
    started = time.monotonic()
    with applied(trial.mutant, root):
        status = wait_for(fork_tests(root, trial.tests), seconds=TIMEOUT)
    if status not in (PASSED, FAILED, None):
        raise RuntimeError(f"{trial} could not be tested:\n{(root / 'said.txt').read_text()[-3000:]}")
    return Outcome(passed=status == PASSED, seconds=time.monotonic() - started)


def main() -> int:
    """Run the mutants that were asked for and return the exit status."""
    parser = argparse.ArgumentParser(description="Apply mutants in a copy and say which ones no test notices.")
    parser.add_argument("names", nargs="*", help="of mutants; all by default")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests on the unchanged code first")
    options = parser.parse_args()
    known = read_mutants()
    if unknown := set(options.names) - {mutant.name for mutant in known}:
        parser.error(f"no mutant {', '.join(sorted(unknown))}; --list names them")
    mutants = [mutant for mutant in known if not options.names or mutant.name in options.names]
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name:18} {mutant.file}: {mutant.what}")
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in IMPORTED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = make_copy(Path(folder) / "copy")
        if not options.no_baseline:
            everything = tuple(sorted({test for mutant in mutants for test in mutant.tests}))
            if not run_trial(Trial(mutant=None, tests=everything), root).passed:
                print(f"the tests fail on the unchanged code:\n{(root / 'said.txt').read_text()[-3000:]}")
                return 1
        noticed = 0
        for mutant in mutants:
            outcome = run_trial(Trial(mutant=mutant, tests=mutant.tests), root)
            noticed += not outcome.passed
            verdict = "SURVIVED" if outcome.passed else "noticed "
            print(f"{verdict} {outcome.seconds:5.0f} s  {mutant.name:18} {mutant.file}: {mutant.what}", flush=True)
    score = noticed / len(mutants)
    print(f"{noticed} of {len(mutants)} mutants noticed, {100 * score:.1f} %")
    return 0 if score >= ENOUGH else 1


if __name__ == "__main__":
    try:
        status = main()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        status = 2
    sys.exit(status)

"""`clr pretrain --seeds 0,1 --sweep optim.lr=1e-3,2e-3`: several trainings in a row, and what came of them."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.runs import show_comparison
from contrastive_cli.cli.training import run_session
from contrastive_cli.core.errors import UsageError

if TYPE_CHECKING:
    from contrastive_cli.services.training.sessions import Session

LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One training of a sweep: the field that it sets, as --set takes it, and its seed; None where it is not swept."""

    assignment: str | None
    seed: int | None

    @property
    def suffix(self) -> str:
        """What the run's name ends with: `-lr-1e-3`, `-s0`, or both."""
        field, _, value = (self.assignment or "").partition("=")
        word = "" if self.assignment is None else f"-{field.rpartition('.')[2]}-{value}"
        return re.sub(r"[^A-Za-z0-9._-]", "_", word) + ("" if self.seed is None else f"-s{self.seed}")

    @property
    def described(self) -> str:
        """In words."""
        parts = [self.assignment, None if self.seed is None else f"seed {self.seed}"]
        return ", ".join(part for part in parts if part is not None)


def read_seeds(text: str) -> list[int]:
    """Read `0,1,2`; a seed that is given twice counts once.

    Raises:
        UsageError: If one is not a whole number from 0 on, or there are fewer than two.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) <= 10 and int(word) <= LARGEST for word in words):
        raise UsageError(f"--seeds {text!r} is not a list of whole numbers such as 0,1,2")
    seeds = list(dict.fromkeys(map(int, words)))
    if len(seeds) < 2:
        raise UsageError(f"--seeds {text!r} is one seed", hint="give several, or --seed")
    return seeds


def read_sweep(text: str) -> list[str]:
    """Read `optim.lr=1e-3,2e-3` as the words that --set takes, one a value; a comma within brackets is the value's own.

    Raises:
        UsageError: If it is no field with several values.
    """
    field, equals, values = text.partition("=")
    ends, depth = [-1], 0
    for position, letter in enumerate(values):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            ends.append(position)
    words = list(dict.fromkeys(values[a + 1 : b].strip() for a, b in itertools.pairwise([*ends, len(values)])))
    if field and equals and len(words) == 1 and words[0] and len(ends) > 1:
        raise UsageError(f"--sweep {text!r} is one value", hint="give several, or --set")
    if not (field and equals and all(words) and len(words) > 1):
        raise UsageError(f"--sweep {text!r} is not of the form optim.lr=1e-3,2e-3, one field and several values")
    return [f"{field}={word}" for word in words]


def plan_sweep(seeds: str | None, sweep: str | None) -> list[Variant]:
    """Every value with every seed.

    Raises:
        UsageError: If one of them cannot be read.
    """
    numbers: list[int | None] = [None] if seeds is None else list(read_seeds(seeds))
    words: list[str | None] = [None] if sweep is None else list(read_sweep(sweep))
    return [Variant(assignment=word, seed=number) for word in words for number in numbers]


def train_sweep(
    configs: Sequence[tuple[Variant, Any]],
    *,
    start: Callable[..., Session],
    out: Path | None,
    overwrite: bool,
    output: Output,
    began: float,
) -> None:
    """Train every configuration to its end and compare the runs; a budget is that of each.

    Raises:
        RunError: Before anything is trained, if the directory of any run exists or cannot be made.
    """
    from contrastive_cli.core.runs import free_run_path

    places = [None if out is None else out.with_name(f"{out.name}{variant.suffix}") for variant, _ in configs]
    for place in places:
        if place is not None:
            free_run_path(place, default_name="", overwrite=overwrite)
    runs, summaries = [], []
    for number, ((variant, config), place) in enumerate(zip(configs, places, strict=True)):
        output.note(f"{variant.described}, run {number + 1} of {len(configs)}")
        since = began if number == 0 else time.monotonic()
        session = start(config, out=place, overwrite=overwrite, output=output, began=since)
        summaries.append(run_session(session, output))
        runs.append(session.run)
        if not output.json:
            output.result({}, f"{session.run.path}")
    from contrastive_cli.services.compared_runs import compare_runs

    comparison = compare_runs(runs)
    if output.json:
        output.result({"runs": summaries, **comparison.to_dict()}, "")
        return
    show_comparison(comparison, output)

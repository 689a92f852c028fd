"""`clr pretrain --seeds 0,1,2`: the same training with several seeds, one after another, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_cli.cli.console import Output
from contrastive_cli.cli.runs import show_comparison
from contrastive_cli.cli.training import run_session
from contrastive_cli.core.errors import UsageError

if TYPE_CHECKING:
    from contrastive_cli.services.training.sessions import Session

LARGEST = 2**31 - 1


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


def train_seeds(
    configs: Sequence[tuple[int, Any]],
    *,
    start: Callable[..., Session],
    out: Path | None,
    overwrite: bool,
    output: Output,
    began: float,
) -> None:
    """Train every configuration, by its seed, to its end and compare the runs; a budget is that of each.

    Raises:
        RunError: Before anything is trained, if the directory of any run exists or cannot be made.
    """
    from contrastive_cli.core.runs import free_run_path

    places = {seed: None if out is None else out.with_name(f"{out.name}-s{seed}") for seed, _ in configs}
    for place in places.values():
        if place is not None:
            free_run_path(place, default_name="", overwrite=overwrite)
    runs, summaries = [], []
    for number, (seed, config) in enumerate(configs):
        output.note(f"seed {seed}, run {number + 1} of {len(configs)}")
        since = began if number == 0 else time.monotonic()
        session = start(config, out=places[seed], overwrite=overwrite, output=output, began=since)
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

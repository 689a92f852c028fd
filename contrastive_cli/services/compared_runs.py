"""Runs side by side: only the options in which they differ, and what was measured; equal runs of other seeds are one.

`clr runs compare`, `clr pretrain --seeds` and `clr report` reach this module.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.runs import Run
from contrastive_cli.services.reporting import summarize

SEED: Final = "seed"
OUTCOMES: Final = ("train.plan",)  # a field of the configuration that the training writes itself
MEASURES: Final = {  # of a summary: what it is called, and whether it is a part of a whole
    "linear": ("linear", True),
    "finetuned": ("finetuned", True),
    "online_knn": ("online kNN", True),
    "loss": ("loss", False),
    "effective_rank": ("effective rank", False),
    "spread": ("spread", False),
    "epochs": ("epochs", False),
    "seconds": ("seconds", False),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """What was measured on the runs of a group: the mean, and from two runs on the 95 % interval of it."""

    values: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Runs that differ in their seed alone, by the options that they share, dotted and without the seed.

    What was measured is that of the first run of every seed.
    """

    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, Any]
    measures: Mapping[str, Measure]

    @property
    def name(self) -> str:
        """The run's name, or what the names have in common and how many there are."""
        names = [run.name for run in self.runs]
        if len(names) == 1:
            return names[0]
        common = names[0][: next((i for i, letters in enumerate(zip(*names)) if len(set(letters)) > 1), None)]  # noqa: B905
        return f"{common.rstrip('-_.s') or names[0]} ({len(names)} runs)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Groups of runs; the options in which they differ, a value a group, None where a group has no such option."""

    groups: tuple[Group, ...]
    differing: Mapping[str, tuple[Any, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "groups": [
                {
                    "name": group.name,
                    "runs": [str(run.path) for run in group.runs],
                    "seeds": list(group.seeds),
                    "options": {key: values[number] for key, values in self.differing.items()},
                    "measures": {
                        key: {"values": list(one.values), "mean": one.mean, "ci95": one.interval}
                        for key, one in group.measures.items()
                    },
                }
                for number, group in enumerate(self.groups)
            ]
        }


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Compare runs, in the order in which they are given.

    Raises:
        RunError: If one has no readable manifest.
    """
    options = [_options(run) for run in runs]
    members: dict[str, list[int]] = {}
    for number, own in enumerate(options):
        members.setdefault(json.dumps({**own, SEED: None}, sort_keys=True), []).append(number)
    groups = tuple(
        Group(
            runs=tuple(runs[number] for number in numbers),
            seeds=tuple(options[number][SEED] for number in numbers),
            options={key: value for key, value in options[numbers[0]].items() if key != SEED},
            measures=_measures([summarize(runs[number]) for number in _of_each_seed(numbers, options)]),
        )
        for numbers in members.values()
    )
    keys = dict.fromkeys(key for group in groups for key in group.options)
    rows = {key: tuple(group.options.get(key) for group in groups) for key in keys}
    differing = {key: values for key, values in rows.items() if len({json.dumps(value) for value in values}) > 1}
    seeds = {group.seeds for group in groups}
    if len(groups) > 1 and len(seeds) > 1:
        differing[SEED] = tuple(", ".join(map(str, group.seeds)) for group in groups)
    return Comparison(groups=groups, differing=differing)


def _of_each_seed(numbers: Sequence[int], options: Sequence[Mapping[str, Any]]) -> list[int]:
    """The first run of every seed: the same training done again says nothing new of how results scatter."""
    return list({options[number][SEED]: number for number in reversed(numbers)}.values())[::-1]


def _options(run: Run) -> dict[str, Any]:
    """The configuration by dotted names, with what of the manifest decides a result and stands nowhere in it."""
    manifest = run.manifest()
    found: dict[str, Any] = {}
    with contextlib.suppress(ClrError):  # a run whose configuration is lost still has its manifest
        found = _dotted(run.config())
    facts = {
        "status": manifest.status,
        "images": f"{manifest.dataset.name} {manifest.dataset.split}, {manifest.dataset.fingerprint[:8]}",
        "precision used": manifest.precision,
        "device used": manifest.device,
        "clr version": manifest.versions.get("clr"),
        "torch version": manifest.versions.get("torch"),
        "parent": None if manifest.parent is None else manifest.parent.run,
    }
    return {key: value for key, value in found.items() if key not in OUTCOMES} | facts | {SEED: manifest.seed}


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.loads(json.dumps(value, default=str))
    return flat


def _measures(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Measure]:
    from contrastive_cli.embeddings.probes.label_subsets import mean_interval

    found = {}
    for key in MEASURES:
        values = tuple(float(summary[key]) for summary in summaries if summary[key] is not None)
        if values:
            interval = mean_interval(values) if len(values) > 1 else None
            if interval is not None and MEASURES[key][1]:
                interval = max(0.0, interval[0]), min(1.0, interval[1])
            found[key] = Measure(values=values, mean=fmean(values), interval=interval)
    return found

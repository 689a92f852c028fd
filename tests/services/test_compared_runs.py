"""Only what differs is shown, and runs that differ in their seed alone are one group with a mean and its interval."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from scipy import stats
from test_reporting import a_run

from contrastive_cli.cli.console import print_csv
from contrastive_cli.cli.runs import describe_measure
from contrastive_cli.core.runs import Run
from contrastive_cli.services.compared_runs import Measure, compare_runs


def seeded(path: Path, *, seed: int, temperature: float = 0.5, knn: float = 0.5) -> Run:
    run = a_run(
        path,
        config=f"seed: {seed}\nmethod: {{temperature: {temperature}}}\ntrain: {{epochs: 5, plan: [{seed}]}}\n",
        metrics={"step": 9, "epoch": 5.0, "train/loss": 3.0, "online/knn": knn},
    )
    run.update(seed=seed)
    return run


def test_compare_runs__seeds_are_one_group_with_the_interval_of_their_mean(tmp_path: Path) -> None:
    values = (0.5, 0.6, 0.55)
    runs = [seeded(tmp_path / f"a-s{seed}", seed=seed, knn=value) for seed, value in enumerate(values)]
    (group,) = compare_runs(runs).groups
    assert group.seeds == (0, 1, 2)
    assert group.name == "a (3 runs)"
    found = group.measures["online_knn"]
    wanted = stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=stats.sem(values))
    assert found.mean == pytest.approx(0.55)
    assert found.interval == pytest.approx(wanted)
    assert compare_runs(runs).differing == {}


def test_compare_runs__the_same_training_again_counts_once(tmp_path: Path) -> None:
    two = [seeded(tmp_path / f"a-s{seed}", seed=seed, knn=value) for seed, value in enumerate((0.5, 0.6))]
    again = seeded(tmp_path / "a-again", seed=0, knn=0.5)
    (group,) = compare_runs([two[0], again, two[1]]).groups
    assert group.seeds == (0, 0, 1)
    assert group.measures == compare_runs(two).groups[0].measures
    (alone,) = compare_runs([two[0], again]).groups
    assert alone.measures["online_knn"].interval is None


def test_compare_runs__names_only_the_options_that_differ(tmp_path: Path) -> None:
    runs = [
        seeded(tmp_path / "a", seed=0),
        seeded(tmp_path / "b", seed=0, temperature=0.2),
        seeded(tmp_path / "c", seed=1),
    ]
    comparison = compare_runs(runs)
    assert comparison.differing == {"method.temperature": (0.5, 0.2), "seed": ("0, 1", "0")}
    assert [len(group.runs) for group in comparison.groups] == [2, 1]
    assert json.loads(json.dumps(comparison.to_dict()))["groups"][1]["options"]["method.temperature"] == 0.2
    runs[1].update(precision="fp32")
    assert compare_runs(runs[:2]).differing["precision used"] == ("bf16", "fp32")


def test_compare_runs__of_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / str(number), config=config, metrics={}) for number, config in enumerate(("a: [", "[]"))]
    assert len(compare_runs(runs).groups) == 1


def test_describe_measure__parts_in_percent_with_the_interval() -> None:
    one = Measure(values=(0.5, 0.7), mean=0.6, interval=(0.4, 0.8))
    assert describe_measure(one, is_part=True) == "60.0 % (40.0 - 80.0)"
    assert describe_measure(Measure(values=(5.0, 5.0), mean=5.0, interval=(5.0, 5.0)), is_part=False) == "5"
    assert describe_measure(None, is_part=True) == "-"


def test_print_csv__is_read_back_and_runs_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv([{"name": "=1+1", "value": -1.5}, {"name": 'a,"b"\nc', "other": None}])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == {"name": "'=1+1", "value": "-1.5", "other": ""}
    assert rows[1]["name"] == 'a,"b"\\nc'

"""What the report says of a probe: whether the pretraining helped, beyond doubt or not, and of damaged results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_reporting import a_run

from contrastive_cli.core.runs import Run
from contrastive_cli.services.evaluation.predictions import Predictions, read_predictions, save_predictions
from contrastive_cli.services.report.probe import (
    Probe,
    ProbeRow,
    class_blocks,
    fraction_blocks,
    gain_interval,
    probe_blocks,
    read_probe,
    verdict,
)
from contrastive_cli.viz.report_page import Drawing, Missing, Table


def row(features: str, labels: int, accuracy: float, *, half: float = 0.02, head: str = "linear") -> ProbeRow:
    return ProbeRow(
        features=features, head=head, labels=labels, share=labels / 1000, accuracy=accuracy,
        interval=(accuracy - half, accuracy + half), balanced=None, largest_class=0.1,
    )  # fmt: skip


def probe(*rows: ProbeRow) -> Probe:
    return Probe(dataset="digits", split="test", test_images=500, current=True, rows=rows)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [row("pretrained", 10, 0.8), row("random", 10, 0.5), row("pixels", 10, 0.6)],
            "The pretraining helped: with 10 labels (1 %) 80.0 % are right, 20.0 points more (+17.2 to +22.8) than the "
            "60.0 % of raw pixels.",
        ),
        (
            [row("pretrained", 10, 0.8), row("random", 10, 0.5), row("pretrained", 100, 0.9), row("random", 100, 0.89)],
            "The pretraining helped, beyond doubt at 1 of 2 numbers of labels: ",
        ),
        (
            [row("pretrained", 10, 0.5), row("random", 10, 0.8)],
            "The pretraining did not help: with 10 labels",
        ),
        ([row("pretrained", 10, 0.80), row("random", 10, 0.79)], "cannot be told from so few test images"),
        (
            [row("pretrained", 10, 0.8), row("random", 10, 0.5), row("pretrained", 100, 0.5), row("random", 100, 0.8)],
            "helped at 1 and hurt at 1 of 2 numbers of labels",
        ),
        ([row("pretrained", 10, 0.8), row("random", 100, 0.5)], "measured without a baseline"),
        ([row("pretrained", 10, 0.8), row("random", 10, 0.9, head="knn")], "measured without a baseline"),
        (
            [row("pretrained", 10, 0.8), row("supervised", 10, 0.7, head="supervised")],
            "than the 70.0 % of the same encoder trained from scratch",
        ),
    ],
)
def test_verdict__says_whether_by_how_much_and_at_how_many_labels(rows: list[ProbeRow], said: str) -> None:
    assert said in verdict(probe(*rows))


def test_verdict__by_the_head_that_was_fitted_where_it_is_not_the_linear_one() -> None:
    rows = [row("pretrained", 10, 0.786, head="knn"), row("random", 10, 0.875, head="knn")]
    assert "The pretraining did not help" in verdict(probe(*rows))
    assert "78.6 % are right by the head knn, 8.9 points less" in verdict(probe(*rows))
    assert "helped" in verdict(probe(*rows, row("pretrained", 10, 0.95), row("random", 10, 0.8)))  # linear goes first


def test_verdict__of_what_was_not_measured() -> None:
    assert "has not been measured yet" in verdict(None)


def test_gain_interval__is_that_of_the_paper() -> None:
    # Table II (a) of Newcombe 1998: 56/70 - 48/80, method 10: 0.0524 to 0.3339, from Wilson's intervals.
    from contrastive_cli.embeddings.probes.label_subsets import confidence_interval

    def measured(features: str, correct: int, total: int) -> ProbeRow:
        return ProbeRow(
            features=features, head="linear", labels=1, share=1.0, accuracy=correct / total,
            interval=confidence_interval(correct, total), balanced=None, largest_class=None,
        )  # fmt: skip

    found = gain_interval(measured("pretrained", 56, 70), measured("random", 48, 80))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def evaluation(run: Run, **changes: Any) -> None:
    rows = [
        {"features": name, "head": "linear", "label_fraction": 1.0, "accuracy": 0.5, "ci95": [0.4, 0.6], "labels": 9}
        for name in ("pretrained", "random")
    ]
    value = {"dataset": "digits", "test_images": 5, "checkpoint": "c", "rows": rows, **changes}
    (run.path / "eval").mkdir(exist_ok=True)
    (run.path / "eval" / "linear-digits.json").write_text(json.dumps(value))


def test_read_probe__an_earlier_checkpoint_is_said_and_damage_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a", config="{}", metrics={})
    assert isinstance(probe_blocks(run, read_probe(run))[0], Missing)
    evaluation(run)
    found = read_probe(run)
    assert found is not None
    assert not found.current
    assert "earlier checkpoint" in " ".join(one.what for one in probe_blocks(run, found) if isinstance(one, Missing))
    assert isinstance(fraction_blocks(run, found)[0], Missing)
    damages: list[dict[str, Any]] = [{"rows": []}, {"rows": [3]}, {"test_images": None}]
    for damage in damages:
        evaluation(run, **damage)
        assert read_probe(run) is None
    bad = {"features": "pretrained", "head": "linear", "label_fraction": 1, "accuracy": 9, "ci95": [0, 1], "labels": 1}
    evaluation(run, rows=[bad])
    assert read_probe(run) is None


def some_predictions(**changes: Any) -> Predictions:
    facts: dict[str, Any] = {
        "name": "digits", "checkpoint": "c", "dataset": "digits", "split": "test", "fingerprint": "f", "head": "linear",
        "labels": 9, "classes": ("a", "b", "c"), "rows": (0, 2, 3, 5), "targets": (0, 0, 1, 2),
        "predicted": (0, 1, 1, 2), "confidence": (0.9, 0.6, 0.8, 0.7),
    }  # fmt: skip
    return Predictions(**{**facts, **changes})


def test_predictions__confusion_and_the_table_by_class(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a", config="{}", metrics={})
    predictions = some_predictions()
    np.testing.assert_array_equal(predictions.confusion(), [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    blocks = class_blocks(run, predictions)
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert table.rows[0] == ("a", "2", "50.0 %", "100.0 %", "b (1)")
    assert table.rows[1] == ("b", "1", "100.0 %", "50.0 %", "-")
    assert any(isinstance(block, Drawing) for block in blocks)
    (missing,) = class_blocks(run, None)
    assert isinstance(missing, Missing)
    assert missing.command == f"clr linear-eval --run {run.path}"


def test_read_predictions__what_was_saved_and_nothing_that_is_damaged(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a", config="{}", metrics={})
    file = save_predictions(run, some_predictions())
    assert read_predictions(run) == [some_predictions()]
    value = json.loads(file.read_bytes())
    damages: list[dict[str, Any]] = [
        {"targets": [0]}, {"predicted": [-1, 0, 0, 0]}, {"rows": [-1, 0, 0, 0]}, {"confidence": [2, 0, 0, 0]},
        {"targets": [10**9] * 4}, {"classes": None}, {"targets": [], "predicted": [], "rows": [], "confidence": None},
    ]  # fmt: skip
    for damage in damages:
        file.write_text(json.dumps({**value, **damage}))
        assert read_predictions(run) == [], damage
    file.write_text("[" * 100_000)
    assert read_predictions(run) == []

"""What a report reads of `clr similarity --pairs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_reporting import a_run

from contrastive_cli.core.runs import Run
from contrastive_cli.services.report.pairs import decisive, in_words, pair_blocks, read_pair_rows
from contrastive_cli.viz.report_page import Table


def verified(run: Run, name: str, **changes: Any) -> None:
    facts: dict[str, Any] = {
        "auc": 0.9, "eer": 0.2, "accuracy": 0.8, "pairs": 3000, "layer": "h", "average": "none", "space": "raw",
        "checkpoint": run.manifest().artifacts["c.pt"].sha256,
    }  # fmt: skip
    (run.path / "eval").mkdir(exist_ok=True)
    (run.path / "eval" / f"verification-{name}.json").write_text(json.dumps({**facts, **changes}))


def with_checkpoint(run: Run) -> Run:
    checkpoint = run.path / "c.pt"
    checkpoint.write_text("x")
    run.add_artifact(checkpoint, kind="checkpoint", step=9)
    return run


def test_read_pair_rows__of_the_newest_checkpoint_and_nothing_that_is_damaged(tmp_path: Path) -> None:
    run = with_checkpoint(a_run(tmp_path / "a", config="{}", metrics={}))
    assert pair_blocks(read_pair_rows(run)) == []
    verified(run, "mine-h")
    verified(run, "mine-z-crops-whitened", layer="z", average="crops", space="whitened", auc=0.95)
    verified(run, "old-h", checkpoint="d" * 64)
    damages: list[dict[str, Any]] = [{"auc": 9}, {"auc": "nan"}, {"pairs": None}, {"layer": 3}, {"average": "x"}]
    for number, damage in enumerate(damages):
        verified(run, f"bad{number}-h", **damage)
    (run.path / "eval" / "verification-deep.json").write_text("[" * 100_000)
    rows = read_pair_rows(run)
    assert [(row.pairs, row.how.name, row.auc) for row in rows] == [
        ("mine", "z-crops-whitened", 0.95),
        ("mine", "h", 0.9),
    ]
    _, table = pair_blocks(rows)
    assert isinstance(table, Table)
    assert table.rows[1] == ("mine", "layer h", "3,000", "0.900", "20.0 %", "80.0 %")


@pytest.mark.parametrize(("layer", "average", "auc"), [("h", "none", 0.9), ("z", "crops", 0.95), ("z", "none", 0.9)])
def test_decisive__the_cosine_that_the_run_chose_and_never_the_clearest(
    layer: str, average: str, auc: float, tmp_path: Path
) -> None:
    run = with_checkpoint(a_run(tmp_path / "a", config="{}", metrics={}))
    verified(run, "mine-h")
    verified(run, "mine-z-crops", layer="z", average="crops", auc=0.95)
    file = run.path / "manifest.json"
    value = {**json.loads(file.read_bytes()), "similarity_layer": layer, "similarity_average": average}
    file.write_text(json.dumps(value))
    (row,) = decisive(run, read_pair_rows(run))
    assert row.auc == auc
    assert f"the area under the curve is {auc:.3f}" in in_words(row)

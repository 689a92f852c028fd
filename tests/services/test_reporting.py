from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contrastive_cli.cli.runs import _cells, _loss_scale
from contrastive_cli.core.manifest import DatasetFacts, Manifest, ParentFacts
from contrastive_cli.core.runs import Run
from contrastive_cli.services.reporting import summarize


def a_run(path: Path, *, config: str, metrics: dict[str, Any]) -> Run:
    path.mkdir()
    run = Run(path)
    facts = DatasetFacts(name="digits", split="train", count=10, fingerprint="f")
    run.write_manifest(
        Manifest(
            status="finished", command=("clr",), method="simclr", encoder="resnet9", dataset=facts, seed=7,
            device="cpu", precision="bf16", threads=1, total_steps=9, step=9, mean=(0.5,), std=(0.5,), size=8,
            started="2026-01-01", parent=ParentFacts(run="before", path="x", checkpoint="0"),
        )
    )  # fmt: skip
    (path / "config.yaml").write_text(config)
    (path / "metrics.jsonl").write_text(json.dumps(metrics) + "\n")
    return run


def test_summarize__what_makes_runs_comparable(tmp_path: Path) -> None:
    config = "method: {name: simclr, temperature: 0.2}\ntrain: {batch_size: 64}\n"
    run = a_run(tmp_path / "a", config=config, metrics={"step": 9, "epoch": 1.5, "train/loss": 3.25})
    checkpoint = run.path / "c.pt"
    checkpoint.write_text("x")
    sha256 = run.add_artifact(checkpoint, kind="checkpoint", step=9).sha256
    (run.path / "eval").mkdir()
    result = run.path / "eval" / "finetune-digits.json"
    for measured, shown in ((sha256, 0.75), ("other", None)):
        result.write_text(json.dumps({"checkpoint": measured, "accuracy": 0.75}))
        found = summarize(run)
        assert found["finetuned"] == shown
    expected = {
        "temperature": 0.2, "seed": 7, "precision": "bf16", "epochs": 1.5, "batch_size": 64, "loss": 3.25,
        "parent": "before", "linear": None,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_summarize__of_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    for number, config in enumerate(("a: [", "[]", "method: 3", "method: {temperature: hot}")):
        run = a_run(tmp_path / str(number), config=config, metrics={})
        assert summarize(run)["temperature"] is None


def test_cells__losses_of_another_temperature_are_told_apart(tmp_path: Path) -> None:
    items = [
        summarize(a_run(tmp_path / str(t), config=f"method: {{temperature: {t}}}", metrics={"train/loss": 3.0}))
        for t in (0.5, 0.2)
    ]
    assert len(set(map(_loss_scale, items))) == 2
    assert [_cells(item, mixed=True)[9] for item in items] == ["3.000 (t 0.5)", "3.000 (t 0.2)"]
    assert _cells(items[0], mixed=False)[9] == "3.000"

"""A power cut between any two of these calls leaves the old file or the new one, and no name of a file that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from write_order import record_writes

from contrastive_cli.core.files import write_atomically
from contrastive_cli.core.manifest import DatasetFacts, Manifest
from contrastive_cli.core.runs import Run, create_run
from contrastive_cli.data.datasets import open_dataset
from contrastive_cli.engine.checkpoint import load_checkpoint, save_checkpoint
from contrastive_cli.services.artifacts import write_result


def small_run(path: Path) -> Run:
    run, _ = create_run(path, overwrite=False)
    facts = DatasetFacts(name="digits", split="train", count=1, fingerprint="f")
    manifest = Manifest(
        status="running", method="simclr", encoder="resnet9", dataset=facts, seed=0, device="cpu", precision="fp32",
        threads=1, total_steps=3, mean=(0.5,), std=(0.5,), classes=(), size=8, command=(), versions={}, git=None,
        started="2026-01-01",
    )  # fmt: skip
    run.write_manifest(manifest)
    return run


def test_write_atomically__the_content_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = record_writes(monkeypatch)
    write_atomically(tmp_path / "file.bin", b"x")
    assert events == [("sync", "file.bin"), ("rename", "file.bin"), ("sync", f"{tmp_path.name}/")]


def test_save_checkpoint__the_manifest_names_only_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path / "run")
    for step in (1, 2):
        save_checkpoint(run, {"step": step}, step=step, seconds=0.0)
    events = record_writes(monkeypatch)
    save_checkpoint(run, {"step": 3}, step=3, seconds=0.0)
    names = ["step-00000003.pt", "manifest.json"]
    assert [name for kind, name in events if kind == "rename"] == names
    synced = [("sync", name) for name in names]
    assert [event for event in events if event in synced] == synced
    # What the manifest named until now stays until it names the new one.
    assert events.index(("remove", "step-00000001.pt")) > events.index(("rename", "manifest.json"))
    assert [checkpoint.name for checkpoint in sorted((run.path / "checkpoints").iterdir())] == [
        "step-00000002.pt",
        "step-00000003.pt",
    ]
    assert load_checkpoint(run).state == {"step": 3}
    assert run.manifest().step == 3


def test_load_checkpoint__the_newest_that_is_whole(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    for step in (9, 10):  # in the order of numbers, not of letters
        save_checkpoint(run, {"step": step}, step=step, seconds=0.0)
    assert load_checkpoint(run).state == {"step": 10}
    newest = run.path / "checkpoints" / "step-00000010.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    found = load_checkpoint(run)
    assert (found.state, found.damaged) == ({"step": 9}, ("checkpoints/step-00000010.pt",))


def test_write_result__the_file_before_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(tmp_path / "run")
    events = record_writes(monkeypatch)
    write_result(run, "linear-digits", {"accuracy": 0.5})
    renamed = [name for kind, name in events if kind == "rename"]
    assert renamed == ["linear-digits.json", "manifest.json"]
    assert set(run.manifest().artifacts) == {"eval/linear-digits.json"}


def test_open_cached__an_entry_is_whole_and_safe_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    events = record_writes(monkeypatch)
    open_dataset("folder", split="all", data_dir=tmp_path / "photos", size=8)
    (entry,) = [index for index, (kind, name) in enumerate(events) if kind == "rename" and name.startswith("folder-")]
    assert {name for kind, name in events[:entry] if kind == "sync"} >= {"labels.npy", "meta.json"}
    assert ("sync", "cache/") in events[entry:]
    shard, pixels = events.index(("rename", "00000.u8")), events.index(("rename", "images.u8"))
    written = [index for index, (kind, name) in enumerate(events) if kind == "sync" and name.startswith("00000.")]
    assert written[0] < shard < pixels < entry  # the pixels are safe before the shard, and so the entry, has its name

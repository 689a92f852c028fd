"""Removing a run: only what carries a manifest, nothing that a link leads to, never a run that is in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_reporting import a_run as run_with

from contrastive_cli.core.errors import RunError
from contrastive_cli.core.removal import plan_removal, remove_run
from contrastive_cli.core.runs import Run


def a_run(path: Path) -> Run:
    path.parent.mkdir(parents=True, exist_ok=True)
    run = run_with(path, config="{}", metrics={})
    for name in ("checkpoints/step-00000001.pt", "eval/linear-digits.json"):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x" * 10)
        run.add_artifact(file, kind="evaluation")
    (path / "notes.txt").write_text("mine")
    (path / "run.lock").touch()
    return run


def test_remove_run__takes_the_directory_and_nothing_else(tmp_path: Path) -> None:
    run, other = a_run(tmp_path / "runs" / "a"), a_run(tmp_path / "runs" / "b")
    plan = plan_removal(run)
    assert plan.foreign == ("config.yaml", "metrics.jsonl", "notes.txt")
    assert plan.files == sum(file.is_file() for file in run.path.rglob("*"))
    assert plan.bytes == sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
    before = {file: file.stat().st_mtime_ns for file in other.path.rglob("*")}
    remove_run(run)
    assert not run.path.exists()
    assert {file: file.stat().st_mtime_ns for file in other.path.rglob("*")} == before


def test_remove_run__refuses_what_is_no_run_a_link_and_a_run_around_another(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_text("x")
    run = a_run(tmp_path / "a")
    link = tmp_path / "link"
    link.symlink_to(run.path)
    around = a_run(tmp_path / "around")
    a_run(around.path / "inner")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{}")
    for path, said in (
        (photos, "no readable manifest"),
        (link, "links are not followed"),
        (around.path, "holds another run, inner"),
        (damaged, "not a manifest of clr"),
    ):
        files = sorted(path.rglob("*"))
        with pytest.raises(RunError, match=said):
            remove_run(Run(path))
        assert sorted(path.rglob("*")) == files


def test_remove_run__links_below_it_lead_nowhere(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (run.path / "eval" / "away").symlink_to(precious)
    with pytest.raises(RunError, match="leads out of it"):
        remove_run(run)
    assert (run.path / "eval" / "linear-digits.json").exists()
    (run.path / "eval" / "away").unlink()
    (run.path / "here").symlink_to(run.path / "eval")  # within the run: the link goes, and what it leads to once
    remove_run(run)
    assert (precious / "file").read_text() == "x"
    assert not run.path.exists()


def test_remove_run__refuses_a_run_in_use_and_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path / "a")
    with run.locked(), pytest.raises(RunError, match="in use"):
        remove_run(Run(run.path))
    assert (run.path / "notes.txt").exists()
    monkeypatch.chdir(run.path / "eval")
    with pytest.raises(RunError, match="the folder you are in"):
        remove_run(run)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove anything")
def test_remove_run__what_cannot_be_removed_is_one_line(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a")
    (run.path / "eval").chmod(0o500)
    with pytest.raises(RunError, match="cannot remove"):
        remove_run(run)
    (run.path / "eval").chmod(0o700)
    remove_run(run)

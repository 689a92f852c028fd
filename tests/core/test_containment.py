from __future__ import annotations

import os
from pathlib import Path

import pytest

from contrastive_cli.core.containment import is_inside, refuse_what_leads_out, remove_own_checkpoints
from contrastive_cli.core.errors import RunError
from contrastive_cli.core.runs import LOCK_FILE, Run, read_runs

FOLDERS = ("checkpoints", "embeddings", "eval", "plots", "images", "tensorboard", "plots/deeper")
FILES = ("manifest.json", "config.yaml", "metrics.jsonl", "bad_files.csv", LOCK_FILE, "eval/linear-digits.json")


def a_run(folder: Path) -> Path:
    run = folder / "run"
    for name in FOLDERS:
        (run / name).mkdir(parents=True)
    for name in FILES:
        (run / name).write_text("")
    return run


@pytest.mark.parametrize("name", FOLDERS)
def test_refuse_what_leads_out__a_folder_behind_a_link(name: str, tmp_path: Path) -> None:
    run, victim = a_run(tmp_path), tmp_path / "victim"
    victim.mkdir()
    refuse_what_leads_out(run)
    (run / name).rename(run / "moved")
    (run / name).symlink_to(victim)
    with pytest.raises(RunError, match=f"{name} leads out of it, to {victim}") as caught:
        refuse_what_leads_out(run)
    assert (caught.value.exit_code, "\n" in caught.value.message) == (5, False)
    with pytest.raises(RunError, match="leads out"), Run(run).locked():
        pass


@pytest.mark.parametrize("target", ["precious.txt", "absent.txt"])
@pytest.mark.parametrize("name", FILES)
def test_locked__a_file_that_is_a_link_is_refused_and_the_target_is_as_it_was(
    name: str, target: str, tmp_path: Path
) -> None:
    run, precious = a_run(tmp_path), tmp_path / "precious.txt"
    precious.write_text("no line break at its end")
    (run / name).unlink()
    (run / name).symlink_to(tmp_path / target)
    with pytest.raises(RunError, match="leads out"), Run(run).locked():
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == ["precious.txt", "run"]
    assert precious.read_text() == "no line break at its end"


def test_refuse_what_leads_out__links_within_and_to_the_run_are_fine(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (run / "best.pt").symlink_to("checkpoints")
    (run / "plots" / "again").symlink_to(run / "eval", target_is_directory=True)
    (run / "eval" / "loop").symlink_to(run)
    (tmp_path / "alias").symlink_to(run)
    for path in (run, tmp_path / "alias"):
        refuse_what_leads_out(path)
        with Run(path).locked():
            pass
    refuse_what_leads_out(tmp_path / "absent")


def test_refuse_what_leads_out__a_link_to_a_neighbor_of_similar_name(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (tmp_path / "run-2").mkdir()
    (run / "more").symlink_to(tmp_path / "run-2")
    with pytest.raises(RunError, match="leads out"):
        refuse_what_leads_out(run)


def test_refuse_what_leads_out__a_pipe(tmp_path: Path, time_limit: None) -> None:
    run = a_run(tmp_path)
    os.mkfifo(run / "eval" / "x.json")
    with pytest.raises(RunError, match=r"eval/x\.json is neither a file nor a folder"):
        refuse_what_leads_out(run)


def test_locked__a_lock_that_shares_a_file_with_content(tmp_path: Path) -> None:
    run, precious = a_run(tmp_path), tmp_path / "precious.txt"
    precious.write_text("precious")
    (run / LOCK_FILE).unlink()
    (run / LOCK_FILE).hardlink_to(precious)
    with pytest.raises(RunError, match="hard link"), Run(run).locked():
        pass
    assert precious.read_text() == "precious"


def test_read_runs__names_what_leads_out(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to("/etc/passwd")
    readable, damaged = read_runs(tmp_path)
    assert (readable, len(damaged)) == ([], 1)
    assert "metrics.jsonl leads out" in damaged[0].message


def test_is_inside__follows_links(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (run / "in").symlink_to("eval")
    (run / "out").symlink_to("..")
    assert is_inside(run / "in" / "x.json", run)
    assert not is_inside(run / "out" / "x.json", run)


def test_remove_own_checkpoints__only_what_has_their_name(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere.pt"
    folder.mkdir()
    elsewhere.write_text("x")
    foreign = ["mymodel.pt", "step-1.pt", "step-00000001.pth", "step-00000001.pt.bak", "xstep-00000001.pt"]
    for name in [*foreign, "step-00000001.pt", "step-00000002.pt"]:
        (folder / name).write_text("x")
    (folder / "step-00000003.pt").mkdir()
    (folder / "step-00000004.pt").symlink_to(elsewhere)
    remove_own_checkpoints(folder, kept={"step-00000002.pt"})
    left = {file.name for file in folder.iterdir()}
    assert left == {*foreign, "step-00000002.pt", "step-00000003.pt"}
    assert elsewhere.read_text() == "x"


def test_remove_own_checkpoints__not_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "step-00000001.pt").write_text("x")
    (tmp_path / "checkpoints").symlink_to("victim")
    remove_own_checkpoints(tmp_path / "checkpoints", kept=())
    remove_own_checkpoints(tmp_path / "absent", kept=())
    assert (tmp_path / "victim" / "step-00000001.pt").exists()

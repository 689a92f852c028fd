from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contrastive_cli.core import runs
from contrastive_cli.core.config import Config
from contrastive_cli.core.errors import RunError, UsageError
from contrastive_cli.core.files import TEMPORARY_SUFFIX, sha256_of
from contrastive_cli.core.manifest import Artifact, DatasetFacts, Manifest
from contrastive_cli.core.provenance import command_line, git_revision, versions
from contrastive_cli.core.runs import (
    Run,
    create_named_run,
    default_run_name,
    find_run,
    free_run_path,
    list_runs,
)

HOLDER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from contrastive_cli.core.runs import Run
with Run(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(30)
"""


def manifest(**changes: Any) -> Manifest:
    facts: dict[str, Any] = {
        "status": "running",
        "command": ("clr", "pretrain"),
        "method": "simclr",
        "encoder": "resnet9",
        "dataset": DatasetFacts(name="digits", split="train", count=10, fingerprint="f"),
        "seed": 0,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "total_steps": 100,
        "mean": (0.5,),
        "std": (0.25,),
        "size": 32,
        "started": "2026-01-01T00:00:00+00:00",
    }
    return Manifest(**{**facts, **changes})


def run_with(path: Path, **changes: Any) -> Run:
    path.mkdir(parents=True)
    run = Run(path)
    run.write_manifest(manifest(**changes))
    return run


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def create_run(out: Path | None, *, default_name: str, overwrite: bool) -> Run:
    """As a training does: ask first, make it later."""
    path = free_run_path(out, default_name=default_name, overwrite=overwrite)
    return runs.create_run(path, overwrite=overwrite)[0]


def test_free_run_path__writes_nothing(in_folder: Path) -> None:
    assert free_run_path(None, default_name="a-1", overwrite=False) == Path("runs/a-1")
    assert list(in_folder.iterdir()) == []


def test_create_run__new_default_and_empty(in_folder: Path) -> None:
    assert create_run(None, default_name="a-1", overwrite=False).path == Path("runs/a-1")
    assert create_run(None, default_name="a-1", overwrite=False).name == "a-1"  # still empty
    assert create_run(Path("deep/er/b.2_x"), default_name="-", overwrite=False).path.is_dir()


def test_create_run__refuses_what_holds_anything(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "mine.txt").write_text("x")
    file = tmp_path / "file"
    file.write_text("y")
    for path in (run, file):
        with pytest.raises(RunError, match="exists, and is no run"):
            create_run(path, default_name="-", overwrite=False)
        with pytest.raises(RunError, match="--overwrite leaves it as it is"):
            create_run(path, default_name="-", overwrite=True)
    assert (run / "mine.txt").read_text() + file.read_text() == "xy"
    (run / "manifest.json").touch()
    with pytest.raises(RunError, match="exists") as caught:
        create_run(run, default_name="-", overwrite=False)
    assert "--overwrite" in str(caught.value.hint)


def test_create_run__what_a_killed_start_leaves_is_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.lock").touch()
    (run / f".config.yaml.1.ab{TEMPORARY_SUFFIX}").touch()
    assert create_run(run, default_name="-", overwrite=False).is_empty()
    (run / "config.yaml").touch()
    assert not Run(run).is_empty()
    assert not Run(run / "config.yaml").is_empty()


def test_create_run__overwrite_renames_the_old_one(tmp_path: Path) -> None:
    for content in ("first", "second"):
        run = create_run(tmp_path / "run", default_name="-", overwrite=True)
        assert list(run.path.iterdir()) == []
        (run.path / "mine.txt").write_text(content)
        (run.path / "config.yaml").touch()
    create_run(tmp_path / "run", default_name="-", overwrite=True)
    old = {(folder / "mine.txt").read_text() for folder in tmp_path.iterdir() if folder.name != "run"}
    assert old == {"first", "second"}


@pytest.mark.parametrize(
    "name", ["../x", "a b", "", ".hidden", "-option", "a/../b", "x" * 101, "a\nb", "\u00e9", "a;b"]
)
def test_create_run__refuses_bad_names(in_folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"run (name|directory)"):
        create_run(Path(name), default_name="-", overwrite=True)
    assert list(in_folder.iterdir()) == []


def test_create_run__below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot write"):
        create_run(tmp_path / "file" / "run", default_name="-", overwrite=False)


def test_default_run_name__free_and_valid(in_folder: Path) -> None:
    names = set()
    for _ in range(3):
        name = default_run_name(method="simclr", dataset="digits", seed=7)
        assert re.fullmatch(r"simclr-digits-\d{8}-\d{6}-s7(\..*)?", name)
        (create_run(None, default_name=name, overwrite=False).path / "f").write_text("x")
        names.add(name)
    assert len(names) == 3


def test_find_run__newest_finished_by_start(in_folder: Path) -> None:
    with pytest.raises(RunError, match="no finished run"):
        find_run(None)
    run_with(Path("runs/z"), status="finished", started="2026-01-01T00:00:00+00:00")
    run_with(Path("runs/a"), status="finished", started="2026-01-01T00:00:00.5+00:00")
    run_with(Path("runs/m"), status="running", started="2026-01-02T00:00:00+00:00")
    Path("runs/broken").mkdir()
    Path("runs/broken/manifest.json").write_text("{")
    assert find_run(None).name == "a"
    assert [run.name for run in list_runs()] == ["z", "a", "m"]


def test_find_run__by_path_or_name(in_folder: Path) -> None:
    run_with(Path("runs/known"))
    run_with(Path("elsewhere/other"))
    assert find_run("known") == find_run("runs/known") == Run(Path("runs/known"))
    assert find_run("elsewhere/other").name == "other"
    for absent in ("other", "runs", "nothing"):
        with pytest.raises(RunError, match="no run at"):
            find_run(absent)


def test_locked__second_process_fails_at_once_and_a_kill_frees_it(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        start = time.monotonic()
        with pytest.raises(RunError, match="in use by another process"), run.locked():
            pass
        assert time.monotonic() - start < 2  # half a second, and patience for a busy machine
        with pytest.raises(RunError, match="in use by another process"):
            create_run(run.path, default_name="-", overwrite=True)
        assert run.manifest() == manifest()
        holder.kill()
    with run.locked():
        pass
    assert create_run(run.path, default_name="-", overwrite=True).path == run.path


def test_locked__sweeps_and_lets_go_after_an_error(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run")
    leftover = run.path / f".x{TEMPORARY_SUFFIX}"
    leftover.write_text("x")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), run.locked():
            1 / leftover.exists()


def test_manifest__round_trip_and_update(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", classes=("a", "\u00e9"), versions={"torch": "2"}, parent=None)
    assert run.manifest() == manifest(classes=("a", "\u00e9"), versions={"torch": "2"})
    changed = run.update(status="finished", seconds=1.5, step=3)
    assert run.manifest() == changed
    assert (changed.status, changed.seconds, changed.step, changed.seed) == ("finished", 1.5, 3, 0)
    file = run.path / "plots" / "a.png"
    file.parent.mkdir()
    file.write_bytes(b"picture")
    artifact = run.add_artifact(file, kind="plot")
    assert artifact == Artifact(kind="plot", bytes=7, sha256=sha256_of(file))
    assert run.manifest().artifacts == {"plots/a.png": artifact}


def test_add_artifact__entries_stand_beside_each_other_and_the_same_file_has_one(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run")
    run.write_manifest(manifest())
    for name, content in (("a.png", "a"), ("b.png", "b"), ("a.png", "longer")):
        (run.path / name).write_text(content)
        run.add_artifact(run.path / name, kind="plot")
    assert {name: entry.bytes for name, entry in run.manifest().artifacts.items()} == {"a.png": 6, "b.png": 1}


def test_versions__and_the_command_make_a_manifest(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", command=command_line(), versions=versions())
    assert run.manifest().command[0] == "clr"
    assert {"clr", "python", "torch", "numpy"} <= run.manifest().versions.keys()


def test_git_revision__none_outside_git(in_folder: Path) -> None:
    assert git_revision() is None


def test_config__is_read_back_as_written(tmp_path: Path) -> None:
    class Own(Config):
        folder: Path = Path("1e3")
        rates: tuple[float, ...] = (1e-05, 0.5)

    run = run_with(tmp_path / "run")
    run.write_config(Own())
    assert run.config() == {"folder": "1e3", "rates": [1e-05, 0.5]}


def artifact_named(key: str) -> bytes:
    tree = manifest().model_dump(mode="json")
    tree["artifacts"] = {key: {"kind": "checkpoint", "bytes": 1, "sha256": "0", "step": 1}}
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        manifest().model_dump_json().encode()[:-1],
        manifest().model_dump_json().replace('"schema_version":1', '"schema_version":2').encode(),
        manifest().model_dump_json().replace('"seed":0', '"seed":1e999').encode(),
        manifest().model_dump_json().replace('"seed":0', '"sead":0').encode(),
        artifact_named("/dev/zero"),
        artifact_named("../other/checkpoints/step-1.pt"),
        artifact_named("a/../../b"),
        artifact_named(""),
        artifact_named("C:\\windows\\x.pt"),
        artifact_named("a\0b"),
        *(
            manifest().model_dump_json().replace(old, new).encode()
            for old, new in [
                ('"threads":1', '"threads":0'),
                ('"threads":1', '"threads":1000000'),
                ('"device":"cpu"', '"device":"a banana"'),
                ('"precision":"fp32"', '"precision":"fp99"'),
                ('"mean":[0.5]', '"mean":[0.5,0.5,0.5,0.5]'),
                ('"std":[0.25]', '"std":[0]'),
                ('"total_steps":100', '"total_steps":-1'),
                ('"seed":0', '"seed":-1'),
                ('"seconds":0.0', '"seconds":NaN'),
            ]
        ),
    ],
)
def test_manifest__hostile_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(RunError, match="is not a manifest of clr"):
        Run(tmp_path).manifest()


def test_manifest__absent_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no readable manifest"):
        Run(tmp_path).manifest()
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(RunError, match="no readable manifest"):
        Run(tmp_path).manifest()


def test_create_run__overwrite_of_a_linked_run_leaves_what_it_names(tmp_path: Path) -> None:
    run = run_with(tmp_path / "disk" / "run", status="finished")
    (run.path / "metrics.jsonl").write_text("x")
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    (tmp_path / "run").symlink_to(run.path)
    made = create_run(tmp_path / "run", default_name="-", overwrite=True)
    assert not made.path.is_symlink()
    assert list(made.path.iterdir()) == []
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before


def test_create_named_run__many_at_once_each_get_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create_named_run(tmp_path / "runs" / "a-s0"), range(40)))
    assert len({run.path for run in made}) == 40
    assert {run.name for run in made} == {"a-s0", *(f"a-s0-{number}" for number in range(2, 41))}


def test_create_named_run__below_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("x")
    with pytest.raises(RunError, match="cannot write"):
        create_named_run(tmp_path / "runs" / "a")


def test_find_run__by_a_file_in_it_and_what_was_looked_for(in_folder: Path) -> None:
    run = run_with(in_folder / "elsewhere" / "r", status="finished")
    (run.path / "checkpoints").mkdir()
    for name in ("checkpoints/step-00000001.pt", "config.yaml"):
        (run.path / name).touch()
        assert find_run(f"elsewhere/r/{name}").path == run.path
    with pytest.raises(RunError, match="no run at 'demo'") as caught:
        find_run("demo")
    for place in (in_folder / "demo", in_folder / "runs" / "demo"):
        assert str(place) in caught.value.message
    with pytest.raises(RunError, match=re.escape(f"no finished run under runs/ of {in_folder}")):
        find_run(None)


def test_update__files_of_record_have_an_entry_while_nothing_is_trained(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run")
    for name in ("config.yaml", "metrics.jsonl", "other.txt"):
        (run.path / name).write_text(name)
    run.add_artifact(run.path / "other.txt", kind="note")
    run.update(status="interrupted")
    (run.path / "metrics.jsonl").write_text("longer")
    found = run.update(status="finished").artifacts
    assert sorted(found) == ["config.yaml", "metrics.jsonl", "other.txt"]
    for name, artifact in found.items():
        assert artifact.sha256 == sha256_of(run.path / name)
    assert sorted(run.update(seconds=3.0).artifacts) == ["config.yaml", "metrics.jsonl", "other.txt"]
    assert list(run.update(status="running").artifacts) == ["other.txt"]

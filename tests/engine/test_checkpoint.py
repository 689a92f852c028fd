from __future__ import annotations

import io
import os
import pickle
import pickletools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from contrastive_cli.core.errors import RunError, UnsafeFileError
from contrastive_cli.core.manifest import Artifact, DatasetFacts, Manifest
from contrastive_cli.core.runs import Run
from contrastive_cli.engine.checkpoint import load_checkpoint, remove_orphans, save_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    facts = DatasetFacts(name="digits", split="train", count=10, fingerprint="f")
    run.write_manifest(
        Manifest(
            status="running", command=("clr",), method="simclr", encoder="resnet9", dataset=facts, seed=0, device="cpu",
            precision="fp32", threads=1, total_steps=9, mean=(0.5,), std=(0.5,), size=8, started="2026-01-01",
        )
    )  # fmt: skip
    return run


def state_at(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "method": {"weight": torch.randn(6, 5, generator=generator), "half": torch.ones(3, dtype=torch.bfloat16)},
        "optimizer": {"state": {0: {"exp_avg": torch.randn(4, generator=generator)}}, "lr": 1e-3, "betas": (0.9, 0.99)},
        "torch_rng": torch.get_rng_state(),
    }


def files(run: Run) -> list[str]:
    return sorted(file.name for file in (run.path / "checkpoints").iterdir())


def test_save_checkpoint__round_trip(run: Run) -> None:
    path = save_checkpoint(run, state_at(3), step=3, seconds=1.5)
    loaded = load_checkpoint(run)
    expected = state_at(3)
    assert loaded.state["step"] == 3
    assert loaded.state["optimizer"]["betas"] == (0.9, 0.99)
    for part, name in [("method", "weight"), ("method", "half")]:
        assert torch.equal(loaded.state[part][name], expected[part][name])
        assert loaded.state[part][name].dtype == expected[part][name].dtype
    assert torch.equal(loaded.state["optimizer"]["state"][0]["exp_avg"], expected["optimizer"]["state"][0]["exp_avg"])
    assert torch.equal(loaded.state["torch_rng"], torch.get_rng_state())
    assert (loaded.name, loaded.damaged) == ("checkpoints/step-00000003.pt", ())
    assert (run.manifest().step, run.manifest().seconds) == (3, 1.5)
    assert run.manifest().artifacts[loaded.name].bytes == path.stat().st_size


def test_save_checkpoint__keeps_the_last_two(run: Run) -> None:
    other = run.path / "note.txt"
    other.write_text("x")
    run.add_artifact(other, kind="note")
    for step in (5, 10, 15, 100):
        save_checkpoint(run, state_at(step), step=step, seconds=0)
    assert files(run) == ["step-00000015.pt", "step-00000100.pt"]
    assert sorted(run.manifest().artifacts) == [f"checkpoints/{name}" for name in files(run)] + ["note.txt"]
    assert load_checkpoint(run).state["step"] == 100
    assert other.exists()


def test_save_checkpoint__the_same_step_again_replaces_it(run: Run) -> None:
    for _ in range(2):
        save_checkpoint(run, state_at(5), step=5, seconds=0)
    assert files(run) == ["step-00000005.pt"]
    assert load_checkpoint(run).state["step"] == 5


def test_load_checkpoint__every_damage_is_found_and_the_older_one_used(run: Run) -> None:
    save_checkpoint(run, state_at(1), step=1, seconds=0)
    newest = save_checkpoint(run, state_at(2), step=2, seconds=0)
    whole, draws = newest.read_bytes(), random.Random(0)
    damages = []
    for _ in range(500):
        flipped = bytearray(whole)
        flipped[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        damages.append(bytes(flipped))
    damages += [whole[: draws.randrange(len(whole))] for _ in range(100)]
    damages += [b"", whole + b"\0"]
    for damaged in damages:
        newest.write_bytes(damaged)
        loaded = load_checkpoint(run)
        assert loaded.state["step"] == 1
        assert loaded.damaged == ("checkpoints/step-00000002.pt",)
    newest.write_bytes(whole)
    assert load_checkpoint(run).state["step"] == 2


@pytest.mark.parametrize("absent", [False, True])
def test_load_checkpoint__all_damaged(run: Run, absent: bool) -> None:
    for step in (1, 2):
        path = save_checkpoint(run, state_at(step), step=step, seconds=0)
        if step == 1:
            older = path
    older.write_bytes(b"x")
    if absent:
        path.unlink()
    else:
        path.write_bytes(b"y")
    with pytest.raises(RunError, match=r"every checkpoint of .* is missing or damaged") as caught:
        load_checkpoint(run)
    assert "step-00000001.pt" in caught.value.message
    assert "step-00000002.pt" in caught.value.message


@pytest.mark.parametrize("kind", ["fifo", "endless", "folder"])
def test_load_checkpoint__what_is_no_file_of_its_size_is_not_opened(run: Run, kind: str, time_limit: None) -> None:
    save_checkpoint(run, state_at(1), step=1, seconds=0)
    newest = save_checkpoint(run, state_at(2), step=2, seconds=0)
    newest.unlink()
    {"fifo": lambda: os.mkfifo(newest), "endless": lambda: newest.symlink_to("/dev/zero"), "folder": newest.mkdir}[  # type: ignore[no-untyped-call]
        kind
    ]()
    assert load_checkpoint(run).damaged == ("checkpoints/step-00000002.pt",)


def test_load_checkpoint__none_yet(run: Run) -> None:
    with pytest.raises(RunError, match="no checkpoint yet"):
        load_checkpoint(run)


def test_load_checkpoint__a_file_without_entry_is_ignored_and_removed(run: Run) -> None:
    path = save_checkpoint(run, state_at(1), step=1, seconds=0)
    stray = path.with_name("step-00000009.pt")
    torch.save(state_at(9), stray)
    assert load_checkpoint(run).state["step"] == 1
    remove_orphans(run)
    assert files(run) == ["step-00000001.pt"]
    assert load_checkpoint(run).state["step"] == 1


def test_remove_orphans__without_checkpoints(run: Run) -> None:
    remove_orphans(run)
    assert [file.name for file in run.path.iterdir()] == ["manifest.json"]


class Trap:
    """Would make a folder if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["trap", "junk"])
def test_load_checkpoint__refuses_what_could_run_code(run: Run, tmp_path: Path, kind: str) -> None:
    path = run.path / "checkpoints" / "step-00000001.pt"
    path.parent.mkdir()
    if kind == "trap":
        torch.save({"step": Trap(tmp_path / "sprung")}, path)
    else:
        path.write_bytes(b"PK\x03\x04junk")
    entered = run.add_artifact(path, kind="checkpoint", step=1)
    assert isinstance(entered, Artifact)
    with pytest.raises(UnsafeFileError, match=r"step-00000001\.pt holds more than tensors"):
        load_checkpoint(run)
    assert not (tmp_path / "sprung").exists()


def test_save_checkpoint__content_needs_no_pickled_classes(run: Run) -> None:
    path = save_checkpoint(run, state_at(4), step=4, seconds=0)
    assert torch.load(path, weights_only=True)["step"] == 4


def test_load_checkpoint__any_content_with_the_right_sha256_ends_in_one_line(run: Run) -> None:
    path = run.path / "checkpoints" / "step-00000001.pt"
    path.parent.mkdir()
    draws, whole = random.Random(0), io.BytesIO()
    torch.save({"step": torch.ones(3), "more": [1, (2,)]}, whole)
    codes = [code.code.encode("latin1") for code in pickletools.opcodes]
    contents = [b"", b"root:x:0:0:root:/root:/bin/bash\n" * 9, b"\x80\x02}r\xff\xff\xff\x7f.", pickle.dumps([1], 2)]
    for _ in range(300):
        changed = bytearray(whole.getvalue())
        for _ in range(draws.randrange(1, 6)):
            changed[draws.randrange(len(changed))] = draws.randrange(256)
        contents += [bytes(changed), whole.getvalue()[: draws.randrange(whole.tell())]]
        contents.append(b"\x80\x02" + b"".join(draws.choice(codes) for _ in range(draws.randrange(1, 30))) + b".")
    ends = Counter[str]()
    for content in contents:
        path.write_bytes(content)
        run.add_artifact(path, kind="checkpoint", step=1)
        try:
            load_checkpoint(run)
        except (RunError, UnsafeFileError) as error:
            ends[type(error.__cause__).__name__] += 1
    assert len(ends) > 5, ends  # else the contents would try too little


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_load_checkpoint__one_that_lies_outside_the_run_is_not_read(run: Run, tmp_path: Path, kind: str) -> None:
    path = save_checkpoint(run, state_at(1), step=1, seconds=0)
    newest = save_checkpoint(run, state_at(2), step=2, seconds=0)
    moved = tmp_path / "elsewhere"
    if kind == "link":
        newest.rename(moved)
        newest.symlink_to(moved)
        assert load_checkpoint(run).damaged == ("checkpoints/step-00000002.pt",)
    else:
        path.parent.rename(moved)
        path.parent.symlink_to(moved)
        with pytest.raises(RunError, match="missing or damaged"):
            load_checkpoint(run)
        before = sorted(file.name for file in moved.iterdir())
        with pytest.raises(RunError, match="checkpoints leads out of it"):
            save_checkpoint(run, state_at(3), step=3, seconds=0)
        remove_orphans(run)
        assert sorted(file.name for file in moved.iterdir()) == before


def test_remove_orphans__leaves_what_it_did_not_name(run: Run) -> None:
    path = save_checkpoint(run, state_at(1), step=1, seconds=0)
    names = ["mymodel.pt", "best.pt", "step-7.pt"]
    for name in names:
        path.with_name(name).write_bytes(b"mine")
    save_checkpoint(run, state_at(2), step=2, seconds=0)
    remove_orphans(run)
    assert files(run) == sorted([*names, "step-00000001.pt", "step-00000002.pt"])

"""Every command and every exit code that a mistake can end it with: one line, no traceback, an object with --json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clr_process import Clr, run_all

ERRORS = {
    "pretrain --method nope": 2,
    "pretrain --set optim.lrr=1": 2,
    "pretrain --out ../x": 2,
    "pretrain --batch-size 5000 --epochs 1 --out x": 3,
    "pretrain --dataset folder --data-dir nope --epochs 1": 3,
    "pretrain --dataset folder --data-dir pickles --epochs 1": 3,
    "pretrain --method byol --neighbors pickles/evil.pkl --set method.positives=neighbor --epochs 1": 4,
    "pretrain --out runs/small --epochs 1": 5,
    "pretrain --resume nope": 5,
    "pretrain --out /dev/null/x --epochs 1": 5,
    "pretrain --set encoder.width=4 --lr 1e30 --epochs 1 --device cpu --out nan --overwrite": 6,
    "finetune --label-fraction 7": 2,
    "finetune --run small --dataset nope": 2,
    "finetune --run small --dataset folder --data-dir nope": 3,
    "finetune --run nope": 5,
    "linear-eval --head cubic": 2,
    "linear-eval --device banana": 2,
    "linear-eval --dataset folder --data-dir nope": 3,
    "linear-eval --run nope": 5,
    "embed --layer q": 2,
    "embed nope.png": 3,
    "embed pickles/evil.pkl": 3,
    "embed --run nope": 5,
    "embed --out /dev/null/x.pkl": 5,
    "knn": 2,
    "knn pickles/fine.pkl -k 0": 2,
    "knn nope.pkl": 3,
    "knn pickles/junk.pkl": 3,
    "knn pickles/evil.pkl": 4,
    "knn pickles/fine.pkl --out /dev/null/x.pkl": 5,
    "nearest-neighbors pickles/fine.pkl --query pickles/evil.pkl --run nope": 5,
    "similarity one.png": 2,
    "similarity one.png two.png": 3,
    "similarity --pairs nope.csv": 3,
    "similarity one.png two.png --run nope": 5,
    "plot nothing": 2,
    "plot embeddings nope.pkl": 3,
    "plot labels --run runs/unmeasured": 3,
    "plot embeddings pickles/evil.pkl": 4,
    "plot curves --run nope": 5,
    "plot curves --out /dev/null/x.png": 5,
    "runs --nope": 2,
    "datasets digits": 2,
    "datasets digits --save-images /dev/null/x": 5,
    "methods extra": 2,
    "doctor --nope": 2,
    "nonsense": 2,
}


@pytest.fixture(scope="module")
def ends(trained: Path, clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    folder = tmp_path_factory.mktemp("errors")
    (folder / "runs").mkdir()
    (folder / "runs" / "small").symlink_to(trained / "runs" / "small")
    (folder / "runs" / "unmeasured").mkdir()
    manifest = (trained / "runs/small/manifest.json").read_text()
    (folder / "runs/unmeasured/manifest.json").write_text(manifest.replace('"finished"', '"failed"'))
    (folder / "pickles").mkdir()
    (folder / "pickles/evil.pkl").write_bytes(b"cos\nsystem\n(Vtouch owned\ntR.")
    (folder / "pickles/junk.pkl").write_bytes(b"junk")
    (folder / "pickles/fine.pkl").write_bytes(b"(lp0\n" + b"(lp0\nF1.0\naF2.0\naa" * 3 + b".")
    commands = [command.split() for error in ERRORS for command in (error, f"{error} --json")]
    done = run_all(clr, commands, cwd=folder)
    assert not (folder / "owned").exists()
    return dict(zip(map(" ".join, commands), done, strict=True))


@pytest.mark.parametrize("command", ERRORS)
def test_commands__end_with_their_code_and_one_line(command: str, ends: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = ends[command]
    assert (code, out) == (ERRORS[command], ""), err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert len(err.splitlines()) - err.splitlines().index(errors[0]) <= 2  # and a hint
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ERRORS)
def test_commands__end_with_one_object(command: str, ends: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = ends[f"{command} --json"]
    assert code == ERRORS[command], err
    error = json.loads(out)["error"]
    assert error["code"] == code
    assert error["message"].isprintable()
    assert set(error) == {"code", "kind", "message", "hint", "path"}
    assert "error" not in err

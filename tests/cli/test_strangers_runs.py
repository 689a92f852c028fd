"""Runs of strangers: links in them lead no command to files that are not the run's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from clr_process import Clr, run_all

LINKS = {
    "checkpoints": "victim",
    "metrics.jsonl": "precious.txt",
    "run.lock": "precious.txt",
    "eval": "victim",
    "plots": "victim",
    "images": "victim",
    "tensorboard": "victim",
    "embeddings": "victim",
    "config.yaml": "precious.txt",
    "manifest.json": "manifest-elsewhere.json",
    "bad_files.csv": "precious.txt",
}
COMMANDS = (
    "pretrain --resume runs/{run} --epochs 60",
    "plot curves --run runs/{run}",
    "linear-eval --run runs/{run}",
    "embed --run runs/{run} --out runs/{run}/plots/e.pkl",
    "similarity a.png b.png --run {run}",
    "finetune --run runs/{run} --out runs/{run}-tuned",
    "pretrain --out runs/{run} --overwrite --epochs 1",
    "finetune --run runs/small --out runs/{run} --overwrite --epochs 1",
)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def told(trained: Path, clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """What every command said of every run, in a folder whose other files are as they were afterwards."""
    folder = tmp_path_factory.mktemp("strangers")
    shutil.copytree(trained / "runs" / "small", folder / "runs" / "small")
    elsewhere = folder / "elsewhere"
    (elsewhere / "victim").mkdir(parents=True)
    for name in ("mymodel.pt", "other.pt", "step-00000001.pt"):
        (elsewhere / "victim" / name).write_bytes(b"precious")
    (elsewhere / "precious.txt").write_text("one line\nand one without its end")
    shutil.copy(folder / "runs/small/manifest.json", elsewhere / "manifest-elsewhere.json")
    for number, (name, target) in enumerate(LINKS.items()):
        run = folder / "runs" / f"linked-{number}"
        shutil.copytree(folder / "runs" / "small", run)
        facts = json.loads((run / "manifest.json").read_bytes())
        facts |= {"status": "interrupted", "step": 0, "artifacts": {}}
        (run / "manifest.json").write_text(json.dumps(facts))
        if (run / name).is_dir():
            shutil.rmtree(run / name)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(elsewhere / target)
    before = content(elsewhere)
    commands = [command.format(run=f"linked-{number}") for command in COMMANDS for number in range(len(LINKS))]
    done = run_all(clr, [command.split() for command in commands], cwd=folder)
    assert content(elsewhere) == before
    return dict(zip(commands, done, strict=True))


@pytest.mark.parametrize("number", range(len(LINKS)))
@pytest.mark.parametrize("command", COMMANDS)
def test_commands__refuse_a_run_that_leads_out_of_itself(
    command: str, number: int, told: dict[str, tuple[int, str, str]]
) -> None:
    code, out, err = told[command.format(run=f"linked-{number}")]
    assert (code, out) == (5, ""), err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert f"{list(LINKS)[number]} leads out of it" in errors[0]
    assert "Traceback" not in err

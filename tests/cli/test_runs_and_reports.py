"""Runs listed, shown, compared and removed, several seeds, and the report: as typed."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shlex
import subprocess
from pathlib import Path

import pytest
from clr_process import TINY, Clr, clr_command, clr_environment

from contrastive_cli.cli.sweep import plan_sweep


@pytest.fixture(scope="module")
def swept(clr: Clr, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each of two seeds, trained by one command, and one of the second seed alone."""
    folder = tmp_path_factory.mktemp("swept")
    small = [*TINY, "--epochs", "1", "--set", "train.evaluations=1"]
    both = clr("pretrain", *small, "--seeds", "3,4", "--out", "runs/a", "--json", cwd=folder)
    assert both.code == 0, both.err
    (group,) = both.json["groups"]
    assert group["seeds"] == [3, 4]
    assert [one["run"] for one in both.json["runs"]] == ["runs/a-s3", "runs/a-s4"]
    alone = clr("pretrain", *small, "--seed", "4", "--out", "runs/alone", "--quiet", cwd=folder)
    assert alone.code == 0, alone.err
    return folder


def losses(run: Path) -> list[float]:
    return [json.loads(line)["train/loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_pretrain_seeds__train_what_each_seed_trains_alone(swept: Path) -> None:
    runs = swept / "runs"
    assert losses(runs / "a-s4") == losses(runs / "alone")
    assert losses(runs / "a-s3") != losses(runs / "a-s4")


def test_pretrain_seeds__refuses_before_anything_is_trained(swept: Path, clr: Clr) -> None:
    for more, code, said in (
        (["--seeds", "9,3", "--out", "runs/a"], 5, "a-s3 exists"),
        (["--seeds", "1"], 2, "is one seed"),
        (["--seeds", "1,x"], 2, "not a list of whole numbers"),
        (["--seeds", "1,2", "--seed", "3"], 2, "--seed would be ignored"),
        (["--seeds", "1,2", "--resume", "runs/a-s3"], 2, "--seeds cannot be given"),
        (["--sweep", "optim.lr=1"], 2, "one field and several values"),
        (["--sweep", "optim.lr=1e-3,fast", "--out", "runs/b"], 2, "optim.lr"),
    ):
        result = clr("pretrain", *TINY, "--epochs", "1", *more, cwd=swept)
        assert (result.code, said in result.err) == (code, True), result.err
    assert not (swept / "runs" / "a-s9").exists()


def test_plan_sweep__every_value_with_every_seed() -> None:
    variants = plan_sweep("0,1", "views.recipe=none, light")
    assert [one.suffix for one in variants] == [
        "-recipe-none-s0",
        "-recipe-none-s1",
        "-recipe-light-s0",
        "-recipe-light-s1",
    ]
    assert [one.described for one in plan_sweep(None, "optim.lr=1e-3,2e-3,1e-3")] == ["optim.lr=1e-3", "optim.lr=2e-3"]
    assert plan_sweep(None, "a.b=x/y,z")[0].suffix == "-b-x_y"
    lists = plan_sweep(None, "views.crop_area=[0.1, 1.0], [0.3,1.0]")
    assert [one.assignment for one in lists] == ["views.crop_area=[0.1, 1.0]", "views.crop_area=[0.3,1.0]"]
    groups = "view_groups=[{count: 2}],[{count: 2}, {count: 4, crop_area: [0.1, 0.4]}]"
    assert [one.assignment for one in plan_sweep(None, groups)] == [
        "view_groups=[{count: 2}]",
        "view_groups=[{count: 2}, {count: 4, crop_area: [0.1, 0.4]}]",
    ]


def test_runs__list_show_and_compare(swept: Path, clr: Clr) -> None:
    listed = clr("runs", "--csv", cwd=swept)
    rows = list(csv.DictReader(io.StringIO(listed.out)))
    assert {row["run"] for row in rows} == {"a-s3", "a-s4", "alone"}
    assert clr("runs", "list", "runs", "--csv", cwd=swept).out == listed.out
    shown = clr("runs", "show", "a-s3", "--json", cwd=swept).json
    assert (shown["seed"], shown["images"]) == (3, 1438)
    assert {one["file"] for one in shown["files"]} >= {"config.yaml", "metrics.jsonl"}
    compared = clr("runs", "compare", "a-s3", "a-s4", cwd=swept)
    assert "2 runs that differ in the seed" in compared.out
    assert "method.temperature" not in compared.out
    assert clr("runs", "compare", "a-s3", "runs/a-s3", cwd=swept).code == 2
    assert clr("runs", "show", "nothing", cwd=swept).code == 5
    drawn = clr("plot", "curves", "--run", "a-s3", "--run", "a-s4", "--out", "both.webp", "--theme", "dark", cwd=swept)
    assert drawn.code == 0, drawn.err
    assert (swept / "both.webp").read_bytes().startswith(b"RIFF")
    assert clr("plot", "curves", "--run", "a-s3", "--run", "a-s4", cwd=swept).code == 2
    assert clr("plot", "views", "--run", "a-s3", "--run", "a-s4", cwd=swept).code == 2


def test_runs_remove__asks_and_takes_only_what_is_said(swept: Path, clr: Clr, clr_cache: Path) -> None:
    small = [*TINY, "--epochs", "0.1", "--quiet"]
    for name in ("x", "y"):
        assert clr("pretrain", *small, "--out", f"runs/{name}", cwd=swept).code == 0
    unasked = clr("runs", "remove", "x", cwd=swept)
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        clr_command(["runs", "remove", "x", "y"]), cwd=swept, env=clr_environment(clr_cache), stdin=theirs,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.write(ours, b"n\ny\n")
        out, err = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0, err
    assert b"remove runs/x (" in err
    assert out == b"removed runs/y\n"
    assert [(swept / "runs" / name).exists() for name in ("x", "y", "a-s3")] == [True, False, True]
    assert clr("runs", "remove", "--yes", "x", "--json", cwd=swept).json == {"removed": ["runs/x"]}


def test_report__of_one_run_and_of_two(swept: Path, clr: Clr) -> None:
    bare = clr("report", "a-s3", "--limit", "60", "--json", cwd=swept)
    assert bare.code == 0, bare.err
    commands = " ".join(one["command"] for one in bare.json["missing"])
    assert "clr linear-eval --run runs/a-s3" in commands
    assert "has not been measured yet" in bare.json["verdicts"][0]
    manifest = json.loads((swept / "runs" / "a-s3" / "manifest.json").read_bytes())
    assert manifest["artifacts"]["report.html"]["kind"] == "report"

    measured = clr("linear-eval", "--run", "a-s4", "--label-fraction", "0.1,1", "--seeds", "1", "--quiet", cwd=swept)
    assert measured.code == 0, measured.err
    both = clr("report", "alone", "a-s4", "--out", "both.html", "--limit", "100", "--json", cwd=swept)
    assert both.code == 0, both.err
    assert "labels (100 %)" in both.json["verdicts"][1]
    text = (swept / "both.html").read_text()
    for part in ("What differs", "differ in the seed alone", "confusion of digits test", "Right", "Most certain"):
        assert part in text, part
    assert "<h3>alone, a-s4</h3>" in text  # what both say alike, as of the images, is said once
    assert clr("report", "a-s3", "a-s4", cwd=swept).code == 2
    assert clr("report", "a-s3", "--out", "x.pdf", cwd=swept).code == 2
    assert clr("report", "nothing", cwd=swept).code == 5


def test_report__of_an_encoder_that_came_with_its_weights(clr: Clr, tmp_path: Path) -> None:
    named = ["--encoder", "resnet9", "--weights", "random", "--dataset", "digits"]
    assert clr("embed", *named, "--out", "e.pkl", "--quiet", cwd=tmp_path).code == 0
    found = clr("report", "resnet9-random", "--json", cwd=tmp_path)
    assert found.code == 0, found.err
    commands = [one["command"] for one in found.json["missing"]]
    assert not any("--resume" in command or "clr report" in command for command in commands)
    text = (tmp_path / "runs/resnet9-random/report.html").read_text()
    assert "Nothing was trained here: the weights are random" in text
    assert "Time and hardware" not in text
    judging = next(command for command in commands if command.startswith("clr linear-eval"))
    words = shlex.split(
        judging.replace("NAME", "digits").replace(" --data-dir FOLDER", "").replace("0.01,0.1,1", "0.1")
    )
    assert clr(*words[1:], "--seeds", "1", "--quiet", cwd=tmp_path).code == 0
    again = clr("report", "resnet9-random", "--json", cwd=tmp_path)
    assert "labels (10 %)" in again.json["verdicts"][0]


@pytest.mark.slow
def test_report__of_a_run_whose_images_and_checkpoint_are_gone(clr: Clr, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(16):
        file = tmp_path / "photos" / f"c{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number * 9, 40, 90)).save(file)
    small = [*TINY, "--dataset", "folder", "--data-dir", "photos", "--epochs", "1", "--set", "dataset.size=32"]
    assert clr("pretrain", *small, "--batch-size", "4", "--out", "runs/r", "--quiet", cwd=tmp_path).code == 0
    (tmp_path / "photos").rename(tmp_path / "away")
    lost = clr("report", "r", "--json", cwd=tmp_path)
    assert lost.code == 0, lost.err
    assert any("--data-dir FOLDER_OF_THE_IMAGES" in one["command"] for one in lost.json["missing"])
    found = clr("report", "r", "--data-dir", "away", "--json", cwd=tmp_path)
    assert not any("--data-dir" in one["command"] for one in found.json["missing"])
    for checkpoint in (tmp_path / "runs/r/checkpoints").iterdir():
        checkpoint.unlink()
    without = clr("report", "r", "--data-dir", "away", "--json", cwd=tmp_path)
    assert without.code == 0, without.err
    assert any("could be embedded" in one["what"] for one in without.json["missing"])


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("clr linear-eval --run a-", {"a-s3", "a-s4"}),
        ("clr runs remove al", {"alone"}),
        ("clr report runs/al", {"runs/alone"}),
        ("clr pretrain --dataset fash", {"fashion-mnist"}),
        ("clr pretrain --method prob", {"prob-simclr"}),
        ("clr pretrain --config digits-s", {"digits-simclr", "digits-supervised", "digits-swav"}),
    ],
)
def test_completion__offers_names(words: str, offered: set[str], swept: Path, clr_cache: Path) -> None:
    environment = {**clr_environment(clr_cache), "_CLR_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    done = subprocess.run(clr_command([]), cwd=swept, env=environment, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == offered
    assert "torch" not in done.stderr


def test_help__groups_options_and_shows_examples_that_can_be_copied(clr: Clr, tmp_path: Path) -> None:
    text = clr("pretrain", "--help", cwd=tmp_path).out
    order = [text.index(f"\n{name}:\n") for name in ("Examples", "Model", "Data", "Optimization", "Run", "Output")]
    assert order == sorted(order)
    assert max(map(len, text.splitlines())) <= 80
    joined = text.replace(" \\\n", " ")
    assert "--data-dir photos --epochs 50 --set method.temperature=0.2" in " ".join(joined.split())

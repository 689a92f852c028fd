"""`clr pretrain` as a user meets it: one process a command, real digits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from clr_process import CPU, TINY, Clr, clr_command, clr_environment
from PIL import Image

TIMINGS = {"seconds", "views_per_second"}


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]


def final_state(run: Path) -> dict[str, Any]:
    newest = max((run / "checkpoints").glob("*.pt"))
    state: dict[str, Any] = torch.load(newest, weights_only=True)
    return state


def assert_same_training(first: Path, second: Path) -> None:
    assert metrics(first) == metrics(second)
    one, two = final_state(first), final_state(second)
    assert one["step"] == two["step"]
    for part in ("method", "optimizer"):
        flat_one, flat_two = flatten(one[part]), flatten(two[part])
        assert flat_one.keys() == flat_two.keys()
        for key, value in flat_one.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(flat_two[key])), key


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for key, item in tree.items() for k, v in flatten(item, f"{prefix}/{key}").items()}
    if isinstance(tree, list):
        return {k: v for key, item in enumerate(tree) for k, v in flatten(item, f"{prefix}/{key}").items()}
    return {} if tree is None else {prefix: tree}


def test_pretrain__writes_a_complete_run(trained: Path) -> None:
    run = trained / "runs" / "small"
    manifest = json.loads((run / "manifest.json").read_bytes())
    assert manifest["status"] == "finished"
    assert manifest["step"] == manifest["total_steps"] == 6 * (1438 // 128)
    assert manifest["dataset"]["count"] == 1438
    for name, artifact in manifest["artifacts"].items():
        assert (run / name).stat().st_size == artifact["bytes"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["encoder"]["width"] == 4
    lines = metrics(run)
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    assert lines[-1]["train/loss"] < lines[0]["train/loss"]
    assert lines[-1]["train/loss_aligned"] < lines[-1]["train/loss"] < lines[-1]["train/loss_chance"]
    assert lines[-1]["online/knn"] > 0.5


def test_pretrain__the_same_command_twice_gives_the_same_bits(clr: Clr, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert clr("pretrain", *TINY, "--epochs", "2", "--out", name, cwd=tmp_path).code == 0
    assert_same_training(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_pretrain__a_run_can_be_repeated_from_its_config(clr: Clr, trained: Path, tmp_path: Path) -> None:
    config = trained / "runs" / "small" / "config.yaml"
    assert clr("pretrain", "--config", config, "--out", "again", cwd=tmp_path).code == 0
    assert_same_training(trained / "runs" / "small", tmp_path / "again")


@pytest.mark.parametrize("micro", [pytest.param([], marks=pytest.mark.slow), ["--micro-batch-size", "48"]])
def test_pretrain__resumed_after_kill_equals_uninterrupted(
    clr: Clr, clr_cache: Path, tmp_path: Path, micro: list[str]
) -> None:
    options = [*TINY, *micro, "--epochs", "2", "--set", "train.save_every=0.01"]
    assert clr("pretrain", *options, "--out", "whole", cwd=tmp_path).code == 0
    command = clr_command(["pretrain", *options, "--out", "killed"])
    process = subprocess.Popen(command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.DEVNULL)
    wait_for_step(tmp_path / "killed", step=8)
    process.kill()
    process.wait()
    assert json.loads((tmp_path / "killed" / "manifest.json").read_bytes())["status"] == "running"
    resumed = clr("pretrain", "--resume", "killed", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert_same_training(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_pretrain__a_signal_saves_and_says_how_to_go_on(
    clr: Clr, clr_cache: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = clr_command(["pretrain", *TINY, "--epochs", "200", "--out", "run", "--set", "train.save_every=0.2"])
    process = subprocess.Popen(command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.PIPE, text=True)
    wait_for_step(tmp_path / "run", step=5)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "clr pretrain --resume run" in err
    assert "Traceback" not in err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    assert manifest["status"] == "interrupted"
    assert f"step-{manifest['step']:08d}.pt" in {file.name for file in (tmp_path / "run" / "checkpoints").iterdir()}


def test_pretrain__a_damaged_checkpoint_is_passed_over(clr: Clr, clr_cache: Path, tmp_path: Path) -> None:
    command = clr_command(["pretrain", *TINY, "--epochs", "200", "--out", "run", "--set", "train.save_every=0.05"])
    process = subprocess.Popen(command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.DEVNULL)
    wait_for_step(tmp_path / "run", step=8)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    newest = max((tmp_path / "run" / "checkpoints").glob("*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    embedded = clr("embed", "--run", "run", cwd=tmp_path)
    assert embedded.code == 0, embedded.err


def test_pretrain__two_processes_do_not_share_a_run(clr: Clr, clr_cache: Path, tmp_path: Path) -> None:
    command = clr_command(["pretrain", *TINY, "--epochs", "200", "--out", "run", "--set", "train.save_every=0.2"])
    process = subprocess.Popen(command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.DEVNULL)
    wait_for_step(tmp_path / "run", step=2)
    second = clr("pretrain", "--resume", "run", cwd=tmp_path)
    process.kill()
    process.wait()
    assert second.code == 5
    assert "in use by another process" in second.err


def test_pretrain__resuming_a_finished_run_is_no_error(clr: Clr, trained: Path) -> None:
    """A script that resumes until it succeeds may have been killed after the last step."""
    before = (trained / "runs/small/manifest.json").read_bytes()
    again = clr("pretrain", "--resume", "runs/small", "--json", cwd=trained)
    assert (again.code, again.json["steps"]) == (0, json.loads(before)["total_steps"])
    assert "finished already" in again.err
    assert (trained / "runs/small/manifest.json").read_bytes() == before


def test_pretrain__two_begin_at_one_place_at_once(clr: Clr, clr_cache: Path, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            clr_command(["pretrain", *TINY, "--epochs", "1", "--out", "run", "--seed", str(seed)]),
            cwd=tmp_path,
            env=clr_environment(clr_cache),
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]
    ends = [(process.communicate(timeout=200)[1], process.returncode) for process in processes]
    assert sorted(code for _, code in ends) == [0, 5], ends
    winner = [code for _, code in ends].index(0)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    assert (manifest["status"], manifest["seed"]) == ("finished", winner)
    assert clr("embed", "--run", "run", cwd=tmp_path).code == 0


def flat_images(folder: Path, *, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (16, 16), (7, 8, 9)).save(folder / f"{number}.png")


def test_pretrain__images_that_are_all_the_same(clr: Clr, tmp_path: Path) -> None:
    flat_images(tmp_path / "same", count=20)
    result = clr("pretrain", *TINY, "--dataset", "folder", "--data-dir", "same", "--out", "run", cwd=tmp_path)
    assert result.code == 3
    assert "are the same picture" in result.err
    assert not (tmp_path / "run").exists()


def test_pretrain__a_collapsed_embedding_is_a_failure_that_keeps_its_checkpoint(clr: Clr, tmp_path: Path) -> None:
    flat_images(tmp_path / "nearly", count=40)
    odd = Image.new("RGB", (16, 16), (7, 8, 9))
    odd.putpixel((0, 0), (7, 8, 10))
    odd.save(tmp_path / "nearly" / "odd.png")
    small = ["--set", "encoder.width=4", "--device", "cpu", "--precision", "fp32", "--batch-size", "8"]
    data = ["--dataset", "folder", "--data-dir", "nearly", "--set", "views.noise_probability=0"]
    result = clr("pretrain", *small, *data, "--epochs", "2", "--out", "run", cwd=tmp_path)
    assert result.code == 6, result.err
    assert "has collapsed" in result.err
    assert json.loads((tmp_path / "run" / "manifest.json").read_bytes())["status"] == "failed"
    assert clr("embed", "nearly/odd.png", "--run", "run", cwd=tmp_path).code == 0


def test_pretrain__class_folders_of_any_bytes(clr: Clr, tmp_path: Path) -> None:
    for number, name in enumerate((b"[red]", b"\xff\xfe", b"a\nb", b"=1")):
        folder = Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"/" + name))
        folder.mkdir(parents=True)
        for shade in range(4):
            Image.new("RGB", (16, 16), (60 * number, 50 * shade, 9)).save(folder / f"{shade}.png")
    data = ["--dataset", "folder", "--data-dir", "data", "--batch-size", "4"]
    small = ["--set", "encoder.width=4", "--device", "cpu", "--precision", "fp32"]
    result = clr("pretrain", *small, *data, "--epochs", "1", "--out", "run", cwd=tmp_path)
    assert result.code in (0, 6), result.err  # so few steps may leave it collapsed
    assert len(json.loads((tmp_path / "run" / "manifest.json").read_bytes())["classes"]) == 4
    embedded = clr("embed", "data", "--run", "run", "--out", "x.npz", cwd=tmp_path)
    assert embedded.code == 0, embedded.err
    assert clr("knn", "x.npz", "-k", "2", cwd=tmp_path).code == 0


def test_pretrain__refuses_an_existing_run_and_keeps_it(clr: Clr, trained: Path) -> None:
    refused = clr("pretrain", *TINY, "--epochs", "1", "--out", "runs/small", cwd=trained)
    assert refused.code == 5
    assert "--overwrite" in refused.err
    assert json.loads((trained / "runs" / "small" / "manifest.json").read_bytes())["status"] == "finished"


def test_pretrain__budget_leaves_a_plan_that_repeats_it_exactly(clr: Clr, tmp_path: Path) -> None:
    result = clr("pretrain", *TINY, "--budget", "5s", "--out", "run", "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    assert manifest["total_steps"] == manifest["step"] == result.json["steps"]
    assert 1 <= result.json["seconds"] <= 9
    assert "s of 5 s" in result.err
    plan = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["plan"]
    assert plan == [list(segment) for segment in manifest["pace"]]
    assert plan[-1][1] == manifest["step"]
    assert clr("pretrain", "--config", "run/config.yaml", "--out", "again", cwd=tmp_path).code == 0
    assert_same_training(tmp_path / "run", tmp_path / "again")


def test_pretrain__plan_writes_nothing(tmp_path: Path) -> None:
    """Not even decoded images: the cache stays as empty as it was."""
    cache = tmp_path / "cache"
    options = [*TINY, "--epochs", "3", "--plan", "--json", "--lr", "0.002"]
    process = subprocess.run(
        clr_command(["pretrain", *options]), cwd=tmp_path, env=clr_environment(cache), capture_output=True, check=True
    )
    plan = json.loads(process.stdout)
    assert plan["negatives_per_anchor"] == 2 * 128 - 2
    assert plan["peak_learning_rate"] == pytest.approx(0.002 * 0.5**0.5)
    assert plan["steps"] == 33
    assert plan["images"] == 1438
    assert 2 <= plan["sampled"] <= 300
    assert plan["cache_mb"] == pytest.approx(1438 * 32 * 32 / 1e6, rel=0.1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--method", "simcrl"], 2, "did you mean 'simclr'"),
        (["--dataset", "cifar"], 2, "did you mean 'cifar10'"),
        (["--encoder", "resnet8"], 2, "did you mean 'resnet"),
        (["--set", "optim.lrr=1"], 2, "did you mean 'optim.lr'"),
        (["--set", "optim.lr=1", "--lr", "1"], 2, "optim.lr is given by --set and by its own option"),
        (["--epochs", "1", "--budget", "1m"], 2, "epochs and budget exclude each other"),
        (["--budget", "soon"], 2, "not a duration"),
        (["--config", "nope"], 2, "no preset named 'nope'"),
        (["--device", "cuda:77"], 2, "cannot be used"),
        (["--batch-size", "5000"], 3, "1438"),
        (["--dataset", "cifar10"], 3, "clr pretrain --dataset cifar10"),
        (["--out", "a b"], 2, "run name"),
        (["--out", "/proc/nope/run"], 5, "cannot write"),
        (["--resume", "nope"], 5, "no run at"),
        (["--resume", "nope", "--out", "x"], 2, "--out cannot be given with it"),
        (["--lr", "1e9", "--set", "optim.name=sgd"], 6, "the loss is"),
    ],
)
def test_pretrain__errors_are_one_line(clr: Clr, tmp_path: Path, arguments: list[str], code: int, text: str) -> None:
    extra = [] if "--batch-size" in arguments or "--resume" in arguments else TINY
    length = [] if {"--epochs", "--budget", "--resume"} & set(arguments) else ["--epochs", "1"]
    result = clr("pretrain", *extra, *length, *arguments, cwd=tmp_path)
    assert result.code == code, result.err
    assert text in result.err
    assert "Traceback" not in result.err
    assert sum(line.startswith("error:") for line in result.err.splitlines()) == 1


def wait_for_step(run: Path, *, step: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if json.loads((run / "manifest.json").read_bytes())["step"] >= step:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"{run} did not reach step {step}")


def test_pretrain__a_folder_smaller_than_the_batch_takes_half_of_it(clr: Clr, tmp_path: Path) -> None:
    saved = clr("datasets", "digits", "--save-images", "photos", "--count", "100", cwd=tmp_path)
    assert saved.code == 0, saved.err
    small = ["--set", "encoder.width=4", "--set", "dataset.size=32", "--precision", "fp32"]
    result = clr(
        "pretrain", "--dataset", "folder", "--data-dir", "photos", *small, "--epochs", "1", "--out", "r", cwd=tmp_path
    )
    assert result.code == 0, result.err
    assert yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())["train"]["batch_size"] == 40


def test_pretrain__a_failed_overwrite_keeps_the_old_run(clr: Clr, tmp_path: Path) -> None:
    assert clr("pretrain", *TINY, "--epochs", "1", "--out", "run", cwd=tmp_path).code == 0
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    failed = clr("pretrain", *TINY, "--out", "run", "--overwrite", "--encoder", "resnet8", cwd=tmp_path)
    assert failed.code == 2
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before


def test_plot__a_run_in_training_can_be_looked_at(clr: Clr, clr_cache: Path, tmp_path: Path) -> None:
    command = clr_command(["pretrain", *TINY, "--epochs", "200", "--out", "run", "--set", "train.save_every=0.2"])
    process = subprocess.Popen(command, cwd=tmp_path, env=clr_environment(clr_cache), stderr=subprocess.DEVNULL)
    wait_for_step(tmp_path / "run", step=20)
    plotted = clr("plot", "curves", "--run", "run", cwd=tmp_path)
    process.kill()
    process.wait()
    assert plotted.code == 0, plotted.err
    assert (tmp_path / "run" / "plots" / "curves.png").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method", "byol", "--batch-size", "5", "--micro-batch-size", "2", "--epochs", "0.005"],
        ["--method", "autoencoder", "--set", "method.latent_dim=1", "--set", "train.evaluations=1", "--epochs", "2"],
    ],
)
def test_pretrain__unusual_shapes(clr: Clr, tmp_path: Path, arguments: list[str]) -> None:
    result = clr("pretrain", *arguments, *CPU, "--out", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    assert "collapsed" not in result.err

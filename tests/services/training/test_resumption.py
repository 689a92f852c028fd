"""What a resumed run may change: a longer schedule is said aloud, anything else is shown and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SMALL_RUN

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import RunError, TrainingError, UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.engine.checkpoint import load_checkpoint, save_checkpoint
from contrastive_cli.engine.schedule import warmup_cosine
from contrastive_cli.services.configuration import read_run_config, resolve
from contrastive_cli.services.inference.comparison import Comparison
from contrastive_cli.services.inference.model import load_model
from contrastive_cli.services.inference.similarity import reference_pairs
from contrastive_cli.services.training import sessions
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.loop_state import checkpoint_state, cut_metrics, require_finite_weights
from contrastive_cli.services.training.resumption import Changes
from contrastive_cli.services.training.sessions import resume_session, start_session

SMALL = {**SMALL_RUN, "train.batch_size": 32, "train.save_every": 1e-9}
PER_EPOCH = 1438 // 32


@pytest.fixture(autouse=True)
def cache(clr_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLR_CACHE", str(clr_cache))


def begun(folder: Path, *, steps: int = 5, epochs: float = 0.3, **more: Any) -> Run:
    """A run that was killed after some steps."""
    sets = nested({**SMALL, "train.epochs": epochs, **{key.replace("__", "."): value for key, value in more.items()}})
    config = resolve(config=None, sets=sets, flags={}).config
    training = train_session(session := start_session(config, out=folder / "run", overwrite=False))
    for _ in range(steps):
        next(training)
    training.close()  # type: ignore[attr-defined]
    return session.run


def changes(config: str | None = None, **flags: Any) -> Changes:
    return Changes(
        config=config, sets={}, flags=nested({key.replace("__", "."): value for key, value in flags.items()})
    )


def test_resume_session__what_is_given_again_is_no_change(tmp_path: Path) -> None:
    run = begun(tmp_path)
    again = changes(
        str(run.path / "config.yaml"), method__name="simclr", train__epochs=0.3, views={"recipe": "digits"}, seed=0
    )
    session = resume_session(run, changes=again)
    assert session.changed is None
    assert session.notices == ()
    assert session.state.step == 5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method__temperature": 0.9}, r"method.temperature 1\.0 -> 0.9"),
        ({"method__name": "byol"}, "method.name simclr -> byol"),
        ({"views": {"recipe": "light"}}, "views.crop_probability 0.0 -> 1.0"),
        ({"dataset__name": "cifar10"}, "dataset.name digits -> cifar10"),
        ({"seed": 3, "optim__lr": 1.0}, r"optim.lr .* -> 1.0, seed 0 -> 3"),
        ({"train__budget": "5m"}, "cannot get another --budget"),
        ({"train__epochs": 0.1}, "0.1 epochs are 4 steps, and 5 are done"),
        ({"method__temprature": 0.9}, "did you mean .method.temperature."),
    ],
)
def test_resume_session__other_changes_are_shown_and_refused(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    run = begun(tmp_path)
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with pytest.raises(UsageError, match=words):
        resume_session(run, changes=changes(**given))
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_resume_session__the_own_configuration_of_a_run_that_chose_by_itself(tmp_path: Path) -> None:
    """`auto` in config.yaml and what it became in the manifest are both what the run has."""
    run = begun(tmp_path)
    config = read_run_config(run)
    run.write_config(config.model_copy(update={"device": "auto"}))
    for again in (changes(str(run.path / "config.yaml")), changes(device="auto"), changes(device="cpu")):
        session = resume_session(run, changes=again)
        assert session.changed is None
        assert str(session.setup.device) == "cpu"


def test_resume_session__a_run_that_chose_by_itself_goes_on_again_and_again(tmp_path: Path) -> None:
    run = begun(tmp_path, device="auto", train__precision="auto")
    for step in (6, 7):
        training = train_session(session := resume_session(run))
        assert next(training).step == step
        training.close()  # type: ignore[attr-defined]
        assert str(session.setup.device) == run.manifest().device


def test_resume_session__what_a_new_run_refuses_is_refused_too(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with pytest.raises(UsageError, match="a mapping is needed"):
        resume_session(run, changes=Changes(config=None, sets={"method": "byol"}, flags={}))
    twice = Changes(config=None, sets={"train": {"epochs": 6}}, flags={"train": {"epochs": 5.0}})
    with pytest.raises(UsageError, match="by --set and by its own option"):
        resume_session(run, changes=twice)


@pytest.mark.parametrize("given", [None, 0.35])
def test_resume_session__killed_while_it_was_made_longer(given: float | None, tmp_path: Path) -> None:
    """The configuration was written, the manifest not yet."""
    run = begun(tmp_path)
    for _ in train_session(resume_session(run)):
        pass
    config = read_run_config(run)
    run.write_config(config.model_copy(update={"train": config.train.model_copy(update={"epochs": 0.35})}))
    session = resume_session(run, changes=None if given is None else changes(train__epochs=given))
    assert [status.step for status in train_session(session)] == [14, 15]
    assert [(one.step, one.total_steps) for one in run.manifest().earlier_lengths] == [(13, 13)]


def test_resume_session__more_epochs_say_what_they_do(tmp_path: Path) -> None:
    run = begun(tmp_path)
    session = resume_session(run, changes=changes(train__epochs=0.5))
    assert session.total_steps == round(0.5 * PER_EPOCH)
    config = session.setup.config
    warmup = round(config.optim.warmup_fraction * session.total_steps)
    rate = warmup_cosine(5, total_steps=session.total_steps, warmup_steps=warmup, base=config.peak_learning_rate)
    assert f"22 steps instead of 13: the learning rate goes on at {rate:.3g}" in session.notices[0]
    assert [status.step for status in train_session(session)] == list(range(6, 23))
    manifest = run.manifest()
    assert (manifest.status, manifest.step, manifest.total_steps) == ("finished", 22, 22)
    assert read_run_config(run).train.epochs == 0.5
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 23))
    assert lines[5]["train/lr"] == pytest.approx(rate)


def test_resume_session__a_finished_run_can_become_longer_and_only_that(tmp_path: Path) -> None:
    run = begun(tmp_path)
    for _ in train_session(resume_session(run)):
        pass
    with pytest.raises(RunError, match="is finished"):
        resume_session(run)
    with pytest.raises(RunError, match="is finished"):
        resume_session(run, changes=changes(train__save_every=7))
    session = resume_session(run, changes=changes(train__epochs=0.35))
    assert [status.step for status in train_session(session)] == [14, 15]


def test_resume_session__another_version_is_said(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.update(versions={**run.manifest().versions, "torch": "1.0"})
    assert f"torch is {torch.__version__.split('+')[0]}" in resume_session(run).notices[0]


def test_resume_session__a_budget_gives_way_to_epochs(tmp_path: Path) -> None:
    run = begun(tmp_path)
    config = read_run_config(run)
    train = config.train.model_copy(update={"epochs": None, "budget": 60.0})
    run.write_config(config.model_copy(update={"train": train}))
    assert resume_session(run, changes=changes(train__budget="1m")).total_steps == 13
    assert resume_session(run, changes=changes(train__epochs=1.0)).total_steps == PER_EPOCH


def test_train_session__a_run_that_another_process_took_further(tmp_path: Path) -> None:
    run = begun(tmp_path)
    late = resume_session(run)
    for _ in train_session(resume_session(run)):
        pass
    content = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match="changed by another process"):
        next(train_session(late))
    assert content == {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}


def test_start_session__two_at_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(config=None, sets=nested({**SMALL, "train.epochs": 0.3}), flags={}).config
    opened = sessions.set_up_training  # type: ignore[attr-defined]

    def while_another_starts(*arguments: Any, **keywords: Any) -> Any:
        monkeypatch.setattr(sessions, "set_up_training", opened)
        start_session(config.model_copy(update={"seed": 5}), out=tmp_path / "run", overwrite=False)
        return opened(*arguments, **keywords)

    monkeypatch.setattr(sessions, "set_up_training", while_another_starts)
    with pytest.raises(RunError, match="exists"):
        start_session(config, out=tmp_path / "run", overwrite=False)
    assert Run(tmp_path / "run").manifest().seed == 5


@pytest.mark.parametrize("kept", [0, 100])
def test_resume_session__metrics_that_were_cut_off_are_said(tmp_path: Path, kept: int) -> None:
    run = begun(tmp_path)
    metrics = run.path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:kept])
    session = resume_session(run)
    assert "metrics.jsonl" in session.notices[0]
    for _ in train_session(session):
        pass
    steps = [json.loads(line)["step"] for line in metrics.read_bytes().splitlines()]
    assert steps == list(range(6, 14))  # whole lines only


@pytest.mark.parametrize(
    "change",
    [
        {"method": {}},
        {"method": None},
        {"config": None},
        {"optimizer": {}},
        {"step": "x"},
        {"torch_rng": torch.zeros(3)},
        {"loss_sum": 1.0},
    ],
)
def test_resume_session__a_checkpoint_of_something_else(tmp_path: Path, change: dict[str, Any]) -> None:
    run = begun(tmp_path)
    state = dict(load_checkpoint(run).state) | change
    save_checkpoint(run, state, step=6, seconds=0.0)
    with pytest.raises(RunError, match="does not fit the configuration"):
        resume_session(run)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("temperature: 1.0", "temperature: 0.1", r"method.temperature 1.0 -> 0.1"),
        ("flip_probability: 0.0", "flip_probability: 0.5", r"views.flip_probability 0.0 -> 0.5"),
        ("seed: 0", "seed: 1", r"seed 0 -> 1"),
    ],
)
def test_resume_session__a_configuration_that_was_edited(tmp_path: Path, old: str, new: str, words: str) -> None:
    run = begun(tmp_path)
    file = run.path / "config.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=words):
        resume_session(run)
    file.write_text(file.read_text().replace(new, old, 1).replace("save_every: 1.0e-09", "save_every: 60"))
    assert resume_session(run).state.step == 5


def test_train_session__an_embedding_that_is_no_number_after_the_last_step_is_a_failure(tmp_path: Path) -> None:
    sets = nested({**SMALL_RUN, "train.batch_size": 256, "train.epochs": 0.2, "train.evaluations": 1, "optim.lr": 1e9})
    config = resolve(config=None, sets=sets, flags={}).config
    session = start_session(config, out=tmp_path / "run", overwrite=False)
    assert session.total_steps == 1
    with pytest.raises(TrainingError, match="not finite"):
        list(train_session(session))
    assert session.run.manifest().status == "failed"
    for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_require_finite_weights__those_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    session = resume_session(begun(tmp_path))
    with torch.no_grad():
        next(iter(session.setup.method.parameters())).view(-1)[0] = float("inf")
    with pytest.raises(TrainingError, match="not finite after step 5"):
        require_finite_weights(checkpoint_state(session.setup, session.state)["method"], step=5)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"checkpoint": 1}', b"[" * 100_000])
def test_reference_pairs__damaged_ones_are_made_again(tmp_path: Path, content: bytes) -> None:
    run = begun(tmp_path)
    model = load_model(run, device="cpu")
    whole = reference_pairs(model, Comparison(layer="h"))
    file = run.path / "eval" / "pair-similarities-h.json"
    if content == b'{"checkpoint": 1}':
        content = json.dumps({**json.loads(file.read_bytes()), "quantiles": {"all": [1, 2]}}).encode()
    file.write_bytes(content)
    again = reference_pairs(model, Comparison(layer="h"))
    assert whole[0] == again[0]
    assert {kind: values.tolist() for kind, values in whole[1].items()} == {
        kind: values.tolist() for kind, values in again[1].items()
    }


def test_cut_metrics__a_file_with_other_names_is_made_anew(tmp_path: Path) -> None:
    run = begun(tmp_path)
    metrics, twin = run.path / "metrics.jsonl", tmp_path / "twin.jsonl"
    with metrics.open("ab") as file:
        file.write(b"cut")
    twin.hardlink_to(metrics)
    before = twin.read_bytes()
    for _ in train_session(resume_session(run)):
        pass
    assert twin.read_bytes() == before
    assert metrics.stat().st_nlink == 1
    assert metrics.read_bytes().startswith(before.removesuffix(b"cut"))
    assert len(metrics.read_bytes().splitlines()) == 13


@pytest.mark.parametrize("kind", ["link", "hard link", "absent"])
def test_cut_metrics__what_it_shares_content_with_stays(kind: str, tmp_path: Path) -> None:
    metrics, precious = tmp_path / "metrics.jsonl", tmp_path / "precious"
    precious.write_bytes(b"a\nb\nc")
    if kind != "absent":
        metrics.symlink_to(precious) if kind == "link" else metrics.hardlink_to(precious)
    cut_metrics(metrics, 4)
    assert metrics.read_bytes() == (b"" if kind == "absent" else b"a\nb\n")
    assert precious.read_bytes() == b"a\nb\nc"
    before = metrics.stat().st_ino
    cut_metrics(metrics, 4)
    assert metrics.stat().st_ino == before  # what is whole stays

"""What a kill, a resume, an evaluation or a budget may not disturb: weights, momentum, generator, mode, metrics."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import SMALL_RUN
from torch import Tensor, nn
from write_order import record_writes

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import DataError
from contrastive_cli.core.runs import Run
from contrastive_cli.core.types import Method
from contrastive_cli.data.loader import DeviceImages
from contrastive_cli.embeddings.probes.label_subsets import label_subset
from contrastive_cli.engine.checkpoint import load_checkpoint
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.services.configuration import resolve
from contrastive_cli.services.training import cadence
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.online_probe import OnlineProbe
from contrastive_cli.services.training.plan import time_steps
from contrastive_cli.services.training.resumption import Changes
from contrastive_cli.services.training.sessions import Session, resume_session, start_session
from contrastive_cli.services.training.steps import train_steps
from contrastive_cli.views.preprocessing import Preprocessing

SIDE, BATCH = 16, 4
FOLDER = {**SMALL_RUN, "dataset.name": "folder", "dataset.size": SIDE, "train.batch_size": BATCH}
SAVE_ALWAYS = 1e-9
SAVE_AT_THE_END = 1e6


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLR_CACHE", str(tmp_path_factory.mktemp("cache")))
    torch.set_num_threads(1)


def paint(folder: Path, *, count: int, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}-{number:02d}.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Noise: two classes of ten pictures, all for training."""
    for seed, name in enumerate(("a", "b")):
        paint(tmp_path / "photos/train" / name, count=10, seed=seed)
        paint(tmp_path / "photos/test" / name, count=2, seed=10 + seed)
    return tmp_path / "photos"


def begin(photos: Path, out: Path, **changes: Any) -> Session:
    own = {key.replace("__", "."): value for key, value in changes.items()}
    flags = nested({**FOLDER, "dataset.data_dir": str(photos), **own})
    return start_session(resolve(config=None, sets={}, flags=flags).config, out=out, overwrite=False)


def finish(session: Session) -> Run:
    for _ in train_session(session):
        pass
    return session.run


def kill_after(session: Session, steps: int) -> Run:
    training = train_session(session)
    for _ in range(steps):
        next(training)
    training.close()  # type: ignore[attr-defined]
    return session.run


def state_of(run: Run) -> dict[str, Tensor]:
    """The weights, buffers and momenta at the end."""
    state = load_checkpoint(run).state
    flat = {f"method {name}": value for name, value in state["method"].items()}
    for number, buffers in state["optimizer"]["state"].items():
        flat |= {f"optimizer {number} {name}": torch.as_tensor(value) for name, value in buffers.items()}
    return {**flat, "generator": state["torch_rng"]}


def assert_equal(one: Run, two: Run, *, besides: str = "-") -> None:
    first, second = state_of(one), state_of(two)
    assert first.keys() == second.keys()
    different = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert [name for name in different if name != besides] == []


def lines_of(run: Run) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    passing = ("seconds", "views_per_second")
    return [{key: value for key, value in line.items() if key not in passing} for line in lines]


METHODS: dict[str, dict[str, Any]] = {
    "simclr": {},
    "simclr-sgd": {"optim__name": "sgd", "optim__nesterov": True},
    "simclr-muon": {"optim__name": "muon"},
    "vae": {"method__name": "vae"},
    "prob-simclr": {"method__name": "prob-simclr"},
    "byol": {"method__name": "byol"},
    "supervised": {"method__name": "supervised"},
}


@pytest.mark.parametrize("name", METHODS)
def test_resume_session__killed_between_evaluations_ends_as_if_it_had_not_been(
    name: str, photos: Path, tmp_path: Path
) -> None:
    settings = {**METHODS[name], "train__epochs": 2, "train__evaluations": 2}
    whole = finish(begin(photos, tmp_path / "whole", **settings))
    run = kill_after(begin(photos, tmp_path / "killed", **settings, train__save_every=SAVE_ALWAYS), 4)
    torch.manual_seed(99)
    torch.rand(7)
    finish(resume_session(run))
    assert_equal(whole, run)
    assert lines_of(run) == lines_of(whole)


def test_resume_session__the_generator_goes_on_where_the_checkpoint_left_it(photos: Path, tmp_path: Path) -> None:
    """Steps of ours draw nothing from it, so that one which is only seeded anew would look restored."""
    session = begin(photos, tmp_path / "run", train__epochs=2, train__save_every=SAVE_ALWAYS)
    method: Method = session.setup.method
    drawn: list[Tensor] = []
    encoder_of(method).register_forward_hook(lambda *_: drawn.append(torch.rand(1)))
    seeded = torch.get_rng_state()
    run = kill_after(session, 3)
    saved = load_checkpoint(run).state["torch_rng"]
    assert not torch.equal(saved, seeded)
    torch.manual_seed(99)
    resume_session(run)
    assert torch.equal(torch.get_rng_state(), saved)


def test_resume_session__the_mean_loss_since_the_last_line_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cadence, "LINES_PER_RUN", 5)
    settings = {"train__epochs": 2}  # 10 steps: a line for every second one
    whole = finish(begin(photos, tmp_path / "whole", **settings))
    run = kill_after(begin(photos, tmp_path / "killed", **settings, train__save_every=SAVE_ALWAYS), 3)
    assert [line["step"] for line in lines_of(run)] == [2]
    finish(resume_session(run, changes=Changes(config=None, sets={}, flags=nested({"train.save_every": 1e6}))))
    assert lines_of(run) == lines_of(whole)
    assert [line["step"] for line in lines_of(run)] == list(range(2, 11, 2))


def test_train_session__the_loss_of_a_line_is_the_mean_since_the_line_before(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses are those of the same steps without the loop around them."""
    monkeypatch.setattr(cadence, "LINES_PER_RUN", 5)
    settings = {"train__epochs": 2}  # 10 steps: a line for every second one
    lines = lines_of(kill_after(begin(photos, tmp_path / "run", **settings), 6))
    again = begin(photos, tmp_path / "again", **settings)
    records = itertools.islice(train_steps(again.setup, first_step=0, total_steps=again.total_steps), 6)
    losses = [record.loss.item() for record in records]
    assert len(set(losses)) == 6  # else any mean would do
    assert [line["step"] for line in lines] == [2, 4, 6]
    expected = [sum(losses[start : start + 2]) / 2 for start in (0, 2, 4)]
    assert [line["train/loss"] for line in lines] == pytest.approx(expected, rel=1e-5)


def test_resume_session__every_step_has_one_line(photos: Path, tmp_path: Path) -> None:
    """Lines that were written after the checkpoint, as a kill leaves them, whole or not."""
    run = kill_after(begin(photos, tmp_path / "run", train__epochs=2, train__save_every=SAVE_ALWAYS), 3)
    with (run.path / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 4, "train/loss": 7.0}\n{"step": 5, "train/loss": 7.0}\n{"step": 6, "tra')
    finish(resume_session(run))
    lines = lines_of(run)
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert all(line["train/loss"] != 7.0 for line in lines)


def test_train_session__lines_are_safe_before_the_checkpoint_that_counts_them(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = begin(photos, tmp_path / "run", train__epochs=1, train__save_every=SAVE_ALWAYS)
    events = record_writes(monkeypatch)
    lengths: list[tuple[int, int]] = []
    replace = os.replace

    def noted(source: Any, target: Any, **options: Any) -> None:
        if Path(target).suffix == ".pt":
            state = torch.load(source, weights_only=True)
            lengths.append((state["metrics_bytes"], (session.run.path / "metrics.jsonl").stat().st_size))
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", noted)
    finish(session)
    checkpoints = [index for index, event in enumerate(events) if event[0] == "rename" and event[1].endswith(".pt")]
    assert len(checkpoints) == 5
    previous = 0
    for index in checkpoints:
        assert ("sync", "metrics.jsonl") in events[previous:index]
        previous = index
    assert len(lengths) == 5
    assert all(counted == written > 0 for counted, written in lengths)


@pytest.mark.parametrize("name", ["vae", "prob-simclr", "byol"])
def test_train_session__evaluations_change_nothing(name: str, photos: Path, tmp_path: Path) -> None:
    without = finish(begin(photos, tmp_path / "without", **METHODS[name], train__epochs=2))
    looked = finish(begin(photos, tmp_path / "looked", **METHODS[name], train__epochs=2, train__evaluations=5))
    assert sum("online/spread" in line for line in lines_of(looked)) == 5
    assert_equal(without, looked)


def test_start_session__a_budget_that_was_timed_changes_nothing(photos: Path, tmp_path: Path) -> None:
    settings = {"method__name": "byol", "train__evaluations": 2, "optim__warmup_fraction": 0.0}
    timed = begin(photos, tmp_path / "timed", **settings, train__budget="1s")
    assert all(module.training for module in timed.setup.method.modules())
    lines = [lines_of(kill_after(timed, 1))]
    counted = begin(photos, tmp_path / "counted", **settings, train__epochs=timed.total_steps / 5)
    assert counted.total_steps == timed.total_steps
    lines.append(lines_of(kill_after(counted, 1)))
    states = [session.setup.method.state_dict() for session in (timed, counted)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert lines[0] == lines[1]


def test_time_steps__a_method_that_draws_leaves_the_generator_where_it_was(photos: Path, tmp_path: Path) -> None:
    """A step of ours draws from generators of its own; one of a method with dropout would not."""
    setup = begin(photos, tmp_path / "run", train__epochs=1).setup
    drawn: list[Tensor] = []
    method: Method = setup.method
    encoder_of(method).register_forward_hook(lambda *_: drawn.append(torch.rand(1)))
    before = torch.get_rng_state()
    time_steps(setup, limit=0.1)
    assert drawn
    assert torch.equal(torch.get_rng_state(), before)


def test_train_session__the_settings_of_a_step_reach_it(photos: Path, tmp_path: Path) -> None:
    """Each of them changes the weights after two epochs, or the runs would be the same."""
    plain = {"train__epochs": 2, "optim__name": "sgd"}
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "clipped": {"optim__clip_gradient": 1e-3},
        "warm": {"optim__warmup_fraction": 0.5},
        "seed": {"seed": 1},
        "momentum": {"optim__momentum": 0.0},
        "decay": {"optim__weight_decay": 0.1},
    }
    losses = {
        name: tuple(line["train/loss"] for line in lines_of(finish(begin(photos, tmp_path / name, **plain, **more))))
        for name, more in changes.items()
    }
    assert len(set(losses.values())) == len(changes)


def test_train_session__the_last_step_is_logged_and_saved(photos: Path, tmp_path: Path) -> None:
    run = finish(begin(photos, tmp_path / "run", train__epochs=81, train__save_every=SAVE_AT_THE_END))
    lines = lines_of(run)  # 405 steps, a line for every second
    assert [line["step"] for line in lines[-2:]] == [404, 405]
    manifest = run.manifest()
    assert (manifest.status, manifest.step, load_checkpoint(run).state["step"]) == ("finished", 405, 405)


def test_resume_session__other_images_are_refused(photos: Path, tmp_path: Path) -> None:
    run = kill_after(begin(photos, tmp_path / "run", train__epochs=2, train__save_every=SAVE_ALWAYS), 2)
    before = (photos / "train/a/0-00.png").read_bytes()
    Image.fromarray(np.full((SIDE, SIDE, 3), 9, np.uint8)).save(photos / "train/a/0-00.png")
    with pytest.raises(DataError, match=r"are not those that .* was started with"):
        resume_session(run)
    (photos / "train/a/0-00.png").write_bytes(before)
    assert resume_session(run).state.step == 2


class Gathered:
    """Which images every batch of the training takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[int]] = []
        placed = DeviceImages.placed  # whatever is gathered, now or ahead, comes by here

        def noted(source: DeviceImages, rows: Tensor, indices: Tensor) -> Tensor:
            if indices.shape == (BATCH,):  # the sample of the online probe is larger
                self.batches.append(indices.tolist())
            return placed(source, rows, indices)

        monkeypatch.setattr(DeviceImages, "placed", noted)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_train_session__labels_are_learned_from_labeled_images_alone(
    fraction: float, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(photos / "train", count=6, seed=0)  # loose ones, of no class, the first by name
    gathered = Gathered(monkeypatch)
    session = begin(
        photos, tmp_path / "run", method__name="supervised", train__epochs=4, train__label_fraction=fraction
    )
    labels = torch.from_numpy(session.setup.images.labels)
    assert int((labels < 0).sum()) == 6
    allowed = label_subset(labels, fraction=fraction, seed=0).tolist()
    assert len(allowed) == 20 * fraction
    finish(session)
    assert {index for batch in gathered.batches for index in batch} == set(allowed)
    assert session.run.manifest().labels == len(allowed)


def test_train_session__an_epoch_shows_every_image_once_and_the_next_in_another_order(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = Gathered(monkeypatch)
    finish(begin(photos, tmp_path / "run", train__epochs=2))
    first, second = (list(itertools.chain(*gathered.batches[start : start + 5])) for start in (0, 5))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


class Apart(nn.Module):
    """Embeds every image of noise about as far from any other as can be."""

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_measure__the_online_vote_leaves_the_image_itself_out() -> None:
    """Noise of ten classes: where every image has a vote for itself, that vote is the strongest by far."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (200, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.arange(200) % 10
    preprocessing = Preprocessing(size=SIDE, mean=(0.5,) * 3, std=(0.3,) * 3)
    probe = OnlineProbe(pixels=pixels, labels=labels, preprocessing=preprocessing)
    assert probe.measure(Apart(), precision="fp32")["online/knn"] < 0.35  # type: ignore[arg-type]

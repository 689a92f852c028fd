"""Trackers are told what the run holds: read back from the files of the real libraries, which are offline."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from clr_process import TINY, Clr
from PIL import Image

from contrastive_cli.core.choices import TrackerName
from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.runs import Run
from contrastive_cli.services.configuration import TrainConfig
from contrastive_cli.services.trackers.telling import names_of, numbers_of, open_trackers, publish

LINES = [{"step": 1.0, "train/loss": 2.5}, {"step": 2.0, "train/loss": 1.5, "online/knn": 0.75}]


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of a run, and all libraries offline in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlflow'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    shutil.copytree(trained / "runs/small", tmp_path / "runs/tracked")
    return Run(tmp_path / "runs/tracked")


@pytest.fixture
def results(run: Run) -> list[Path]:
    """A picture and an evaluation."""
    picture, evaluation = run.path / "plots/views.png", run.path / "eval/linear-digits.json"
    for file in (picture, evaluation):
        file.parent.mkdir(exist_ok=True)
    Image.new("RGB", (12, 10), "red").save(picture)
    rows = [{"features": "pretrained", "head": "linear", "label_fraction": 0.1, "accuracy": 0.875}]
    evaluation.write_text(json.dumps({"rows": rows}))
    return [picture, evaluation]


def needs(*libraries: str) -> None:
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")


def tell(run: Run, name: TrackerName, results: list[Path]) -> None:
    """A training of two lines, and later what was measured and drawn."""
    with open_trackers(run, [name], step=0, goes_on=True) as trackers:
        for line in LINES:
            trackers.scalars(line)
    publish(run, [name], results)


def test_tensorboard__files_read_back(run: Run, results: list[Path]) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell(run, "tensorboard", results)
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 2.5), (2, 1.5)]
    assert events.Scalars("eval/linear-digits/pretrained-linear-0.1")[0].value == 0.875
    (image,) = events.Images("plots/views")
    assert (image.width, image.height) == (12, 10)
    assert "method.name: simclr" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_mlflow__file_store_read_back(run: Run, results: list[Path]) -> None:
    needs("mlflow")
    import mlflow

    tell(run, "mlflow", results)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("clr")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])  # the second time it is the same run
    assert (found.info.run_name, found.info.status) == ("tracked", "FINISHED")
    assert [metric.value for metric in client.get_metric_history(found.info.run_id, "train/loss")] == [2.5, 1.5]
    assert found.data.metrics["eval/linear-digits/pretrained-linear-0.1"] == 0.875
    assert found.data.params["method.name"] == "simclr"
    assert [file.path for file in client.list_artifacts(found.info.run_id, "plots")] == ["plots/views.png"]


def test_wandb__offline_folder_read_back(run: Run, results: list[Path]) -> None:
    needs("wandb")
    tell(run, "wandb", results)
    importlib.import_module("wandb").teardown()  # its own process may still be writing when a run has finished
    content = b"".join(file.read_bytes() for file in Path("wandb").glob("offline-run-*/*.wandb"))
    for told in (b"train/loss", b"2.5", b"eval/linear-digits/pretrained-linear-0.1", b"0.875", b"method.name"):
        assert told in content
    assert len(list(Path("wandb").glob("offline-run-*/files/media/images/plots/*.png"))) == 1
    with run.locked():  # no link of wandb's leads out of the run
        pass


@pytest.mark.slow
def test_trackio__local_database_read_back(clr: Clr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    train = ["pretrain", *TINY, "--epochs", "1", "--out", "runs/tracked", "--set", "train.trackers=[trackio]", "--json"]
    done = clr(*train, cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["steps"] > 0  # nothing else is on stdout
    with sqlite3.connect(tmp_path / "trackio" / "clr.db") as database:
        rows = [json.loads(row[0]) for row in database.execute("select metrics from metrics order by step")]
    told = {name for row in rows for name in row}
    assert {"train/loss", "plots/views", "plots/embeddings-tsne"} <= told


def test_pretrain__shows_views_and_map_to_its_trackers(clr: Clr, tmp_path: Path) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    named = ["--out", "runs/tracked", "--set", "train.trackers=[tensorboard]"]
    done = clr("pretrain", *TINY, "--epochs", "1", *named, cwd=tmp_path)
    assert done.code == 0, done.err
    events = EventAccumulator(str(tmp_path / "runs/tracked/tensorboard")).Reload()
    written = [json.loads(line) for line in (tmp_path / "runs/tracked/metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["train/loss"] for line in written if "train/loss" in line}
    assert {event.step: event.value for event in events.Scalars("train/loss")} == pytest.approx(losses)
    assert set(events.Tags()["images"]) == {"plots/views", "plots/embeddings-tsne"}


def test_names_of__the_older_option_is_tensorboard() -> None:
    assert names_of(build(TrainConfig, {"tensorboard": True})) == ("tensorboard",)
    assert names_of(build(TrainConfig, {"trackers": ["wandb"]})) == ("wandb",)
    with pytest.raises(UsageError, match=r"trackers\.0"):
        build(TrainConfig, {"trackers": ["neptune"]})


def test_open_trackers__a_missing_library_names_its_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UsageError, match="wandb needs its extra"), open_trackers(run, ["wandb"], step=0, goes_on=True):
        pass


def test_numbers_of__a_damaged_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"rows": [{"features": 1}]}')
    assert numbers_of(tmp_path / "x.json") == {}

"""MLflow: the store that MLFLOW_TRACKING_URI names, or mlflow's own default here. The extra `mlflow`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contrastive_cli.core.errors import UsageError
from contrastive_cli.services.trackers.tracker import PROJECT, Subject, Tracker, missing

KEY = "clr.key"
LONGEST = 500  # characters of a parameter, in every release


@contextlib.contextmanager
def opened(subject: Subject, *, goes_on: bool) -> Iterator[Tracker]:
    """Begin the run, or take it up again by its key, a tag.

    Raises:
        UsageError: If the extra is not installed, or the store refuses.
    """
    del goes_on
    try:
        import mlflow
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise missing("mlflow") from None
    try:
        client: Any = mlflow.MlflowClient()
        run_id = _find(client, subject) or _begin(client, subject)
    except MlflowException as error:
        raise UsageError(
            f"mlflow cannot begin: {' '.join(str(error).split())[:300]}", hint="set MLFLOW_TRACKING_URI"
        ) from error

    def scalars(values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def picture(name: str, file: Path, step: int) -> None:
        del step
        client.log_artifact(run_id, str(file), artifact_path=name.rpartition("/")[0])

    errors = (MlflowException, OSError)
    status = "FAILED"
    try:
        yield Tracker(name="mlflow", scalars=scalars, results=scalars, picture=picture, errors=errors)
        status = "FINISHED"
    finally:
        with contextlib.suppress(*errors):
            client.set_terminated(run_id, status=status)


def _find(client: Any, subject: Subject) -> str | None:
    experiment = client.get_experiment_by_name(_experiment())
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], filter_string=f"tags.`{KEY}` = '{subject.key}'")
    return str(found[0].info.run_id) if found else None


def _begin(client: Any, subject: Subject) -> str:
    experiment = client.get_experiment_by_name(_experiment())
    number = client.create_experiment(_experiment()) if experiment is None else experiment.experiment_id
    run_id = str(client.create_run(number, run_name=subject.name, tags={KEY: subject.key}).info.run_id)
    for name, value in subject.config.items():
        client.log_param(run_id, name, str(value)[:LONGEST])
    return run_id


def _experiment() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT

"""How a run comes to accuracies that it lacks: the command that measures them, or why there is none."""

from __future__ import annotations

import shlex

import numpy as np

from contrastive_cli.core.errors import ClrError
from contrastive_cli.core.runs import Run
from contrastive_cli.data.cache import ImageSet
from contrastive_cli.services.configuration import read_run_config
from contrastive_cli.services.dataset_config import DatasetConfig
from contrastive_cli.services.inference.model import Model
from contrastive_cli.services.inference.splits import open_split
from contrastive_cli.viz.report_page import Block, Missing, Sentence

FRACTIONS = ("--label-fraction", "0.01,0.1,1")


def has_own_images(run: Run) -> bool:
    """Whether the run was trained here; an encoder that came with its weights has no images."""
    return run.manifest().status != "imported"


def knows_classes(model: Model, tested: ImageSet, *, dataset: DatasetConfig) -> bool:
    """Whether a head can be judged on the tested images: some are of classes that are in train, or it is not known."""
    if not tested.has_labels:
        return True
    try:
        trained = open_split(model, model.manifest.dataset.split, dataset=dataset)
    except ClrError:
        return True
    return bool(np.isin(tested.labels[tested.labels >= 0], trained.labels[trained.labels >= 0]).any())


def missing_images(run: Run, what: str) -> Missing:
    """A block that says what is missing for want of the run's images, and how the report is told where they are."""
    return Missing(
        what=what, command=shlex.join(["clr", "report", str(run.path), "--data-dir", "FOLDER_OF_THE_IMAGES"])
    )


def missing_head(run: Run, what: str, *options: str, judged: bool = True) -> Block:
    """A block that says what is missing, and the command of `clr linear-eval` that measures it.

    Args:
        run: Whose.
        what: A sentence.
        options: Of the command.
        judged: Whether the classes of the test split can be told by a head, see `knows_classes`.
    """
    if not judged:
        return Sentence(text="No class of the test split is in train, so that no head can be judged on it.")
    images = () if has_own_images(run) else ("--dataset", "NAME", "--data-dir", "FOLDER")
    return Missing(what=what, command=shlex.join(["clr", "linear-eval", "--run", str(run.path), *images, *options]))


def missing_pairs(run: Run) -> Missing:
    """For images whose classes were not trained on: how pairs of them are verified."""
    dataset = read_run_config(run).dataset
    where = [] if dataset.data_dir is None else ["--data-dir", str(dataset.data_dir)]
    root = ["--root", str(dataset.data_dir or "data")]
    draw = shlex.join(["clr", "datasets", dataset.name, *where, "--save-pairs", "pairs.csv"])
    verify = shlex.join(["clr", "similarity", "--run", str(run.path), "--pairs", "pairs.csv", *root])
    return Missing(
        what="The classes of the test split were not trained on, so pairs tell.", command=f"{draw} && {verify}"
    )

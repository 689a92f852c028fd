"""Which images a command works on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from contrastive_cli.core.config import Config
from contrastive_cli.core.pictures import AskedRangeField, BandsField, refuse_misfit
from contrastive_cli.data.datasets import DEFAULT_DATASET


class DatasetConfig(Config):
    """Which images.

    Attributes:
        name: One of `clr datasets`.
        data_dir: Where they are, or go with `download`.
        size: Side in pixels of what the encoder sees; None takes the dataset's own.
        view_size: Side in pixels of the views that are trained on; None takes `size`. A smaller one is faster, and
            maybe better, as crops are enlarged by more than whole images (https://arxiv.org/abs/1906.06423).
        stored_size: Side at which images are decoded and kept, for crops with more detail; None takes `size`.
        download: Fetch them when absent; nothing is fetched otherwise.
        max_bad: Largest part of unreadable files that is passed over, in [0, 1].
        labels: CSV file of path and label for a folder, instead of class folders; `unlabeled` takes no labels.
        layout: "classes" takes every folder for a class, whatever its name.
        test_split: The labeled split that accuracies are measured on.
        range: Black and white of pictures with more than eight bits, [low, high] or one pair a band; auto measures it.
        bands: Bands of a folder's pictures that are the channels, counted from 0; None takes the colors.
        display_bands: One or three of `bands` that figures show; None takes the first three, or the first of two.
    """

    name: str = DEFAULT_DATASET
    data_dir: Path | None = None
    size: int | None = Field(None, ge=8, le=1024)
    view_size: int | None = Field(None, ge=8, le=1024)
    stored_size: int | None = Field(None, ge=8, le=1024)
    download: bool = False
    max_bad: float = Field(0.01, ge=0, le=1)
    labels: Path | None = None
    unlabeled: bool = False
    layout: Literal["auto", "classes"] = "auto"
    test_split: str = "test"
    range: AskedRangeField = "auto"
    bands: BandsField | None = None
    display_bands: BandsField | None = None

    _bands_fit = model_validator(mode="after")(refuse_misfit)

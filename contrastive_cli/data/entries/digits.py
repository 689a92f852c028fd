"""scikit-learn's digits, which come with it. After Alpaydin & Kaynak 1998, https://archive.ics.uci.edu/dataset/80."""

from __future__ import annotations

import numpy as np

from contrastive_cli.data.published import TEN_DIGITS
from contrastive_cli.data.scan import stratified_split
from contrastive_cli.data.sources import Samples, Source, SplitRequest, array_samples
from contrastive_cli.data.spec import DatasetSpec


def open_digits(request: SplitRequest) -> Source:
    """The digits have no test part, so one is drawn by class."""

    def load() -> Samples:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[:, None]  # gray levels 0..16
        labels = digits.target.astype(np.int64)
        train, test = stratified_split(labels, seed=request.seed)
        kept = train if request.split == "train" else test
        prefix = f"{request.name}/{request.split}"
        return array_samples(
            images[kept],
            labels[kept],
            classes=TEN_DIGITS,
            prefix=prefix,
            size=request.size,
            framing=request.framing,
        )

    return Source(
        name=request.name,
        split=request.split,
        size=request.size,
        channels=request.channels,
        identity=(f"seed {request.seed}",),
        load=load,
    )


DATASET = DatasetSpec(
    name="digits",
    help="1,797 handwritten digits that come with scikit-learn; needs no files",
    channels=1,
    native_size=8,
    size=32,
    recipe="digits",
    classes=TEN_DIGITS,
    splits=("train", "test"),
    folder="none",
    open=open_digits,
)

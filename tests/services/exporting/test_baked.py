"""The resizing that goes into a graph, against Pillow's own; and what counts as equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from contrastive_cli.core.errors import ExportError
from contrastive_cli.services.exporting.agreement import agreement
from contrastive_cli.services.exporting.baked import resize_matrix

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


@pytest.mark.parametrize("filter_name", FILTERS)
@pytest.mark.parametrize(
    ("length", "first", "step", "size"), [(50, 0.0, 2.5, 20), (31, 4.0, 0.6, 40), (64, 0.0, 1.0, 64)]
)
def test_resize_matrix__is_pillows(filter_name: str, length: int, first: float, step: float, size: int) -> None:
    line = np.random.default_rng(0).integers(0, 256, (1, length), dtype=np.uint8)
    box = (first, 0, first + step * size, 1)
    expected = np.asarray(Image.fromarray(line).resize((size, 1), Image.Resampling[filter_name.upper()], box=box))
    matrix = resize_matrix(torch.arange(length), first=first, step=step, size=size, filter=filter_name)
    found = (matrix @ torch.from_numpy(line[0]).float()).round().clamp(0, 255)
    assert np.abs(found.numpy() - expected[0]).max() <= 1
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(size))


def test_agreement__of_known_tables() -> None:
    expected = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    found = expected + np.array([[0.0, 0.0], [0.0, 2e-4]], np.float32)
    result = agreement(expected, found, library="a library")
    assert result.largest_difference == pytest.approx(2e-4, rel=1e-3)
    assert result.relative_difference == pytest.approx(5e-5, rel=1e-3)
    assert result.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(
    "found", [[[3.0, 4.0], [0.0, 2.001]], [[3.0, 4.0]], [[3.0, 4.0], [0.0, np.nan]], [[3.0, np.inf], [0.0, 2.0]]]
)
def test_agreement__refuses_what_differs(found: list[list[float]]) -> None:
    with pytest.raises(ExportError):
        agreement(np.array([[3.0, 4.0], [0.0, 2.0]], np.float32), np.array(found, np.float32), library="a library")

from __future__ import annotations

import pytest

from contrastive_cli.core.percent import rounded_percent


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (1, "100 %"),
        (0.1, "10 %"),
        (144 / 1438, "10 %"),
        (70 / 1438, "4.9 %"),
        (10 / 1438, "0.7 %"),
        (0.00012, "0.012 %"),
    ],
)
def test_rounded_percent__two_significant_digits(part: float, text: str) -> None:
    assert rounded_percent(part) == text

"""Recipes: bad values are refused in words, the default does nothing."""

from __future__ import annotations

from typing import Any

import pytest

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.views.recipe import RECIPES, Recipe


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"crop_area": [0.5, 0.2]}, "crop_area must be two positive numbers"),
        ({"crop_area": [0.5, 1.5]}, "crop_area must not exceed 1"),
        ({"blur_sigma": [0.0, 1.0]}, "blur_sigma must be two positive numbers"),
        ({"noise_sigma": [0.2, 0.1]}, "noise_sigma must be two numbers in"),
        ({"flip_probability": 1.5}, "flip_probability"),
        ({"hue": 0.6}, "hue"),
        ({"brightnes": 0.4}, "did you mean 'brightness'"),
        ({"mode": "slow"}, "mode"),
    ],
)
def test_recipe__refuses_bad_values(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(Recipe, values)


def test_recipes__none_is_the_default_and_digits_neither_flips_nor_crops() -> None:
    assert RECIPES["none"] == Recipe()
    assert RECIPES["digits"].flip_probability == RECIPES["digits"].crop_probability == 0


@pytest.mark.parametrize(("size", "expected"), [(224, 23), (96, 9), (32, 3), (8, 3), (2, 1)])
def test_kernel_size__is_odd_and_a_tenth_of_the_side(size: int, expected: int) -> None:
    assert Recipe().kernel_size(size) == expected

"""Color: equal to torchvision v2, sample by sample; the composed matrix against the sequence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from contrastive_cli.views import color
from contrastive_cli.views.draws import uniform
from contrastive_cli.views.parameters import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    NUM_SLOTS,
    SATURATION,
    Parameters,
    draw_parameters,
)
from contrastive_cli.views.recipe import Recipe


def images(num: int = 24, *, channels: int = 3) -> Tensor:
    pictures = torch.rand(num, channels, 12, 15, generator=torch.Generator().manual_seed(0))
    pictures[0] = 0.5  # gray, black and white pixels are the corners of HSV
    pictures[1, :, 0], pictures[1, :, 1] = 0.0, 1.0
    return pictures


def parameters_of(recipe: Recipe, *, num: int = 24) -> Parameters:
    draws = uniform(seed=0, epoch=0, indices=torch.arange(num), views=[0], slots=NUM_SLOTS)
    return draw_parameters(recipe, draws, height=12, width=15, size=12)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (color.adjust_brightness, tv.adjust_brightness, 0.0, 2.0),
        (color.adjust_contrast, tv.adjust_contrast, 0.0, 2.0),
        (color.adjust_saturation, tv.adjust_saturation, 0.0, 2.0),
        (color.adjust_hue, tv.adjust_hue, -0.5, 0.5),
    ],
)
def test_adjustments__match_torchvision(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Any, low: float, high: float, channels: int
) -> None:
    pictures, factors = images(channels=channels), torch.linspace(low, high, 24)
    expected = torch.stack([theirs(picture, factor.item()) for picture, factor in zip(pictures, factors, strict=True)])
    torch.testing.assert_close(ours(pictures, factors), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_grayscale_and_solarize__match_torchvision(channels: int) -> None:
    pictures = images(channels=channels)
    expected = tv.rgb_to_grayscale(pictures, num_output_channels=channels)
    torch.testing.assert_close(color.grayscale(pictures), expected, atol=1e-6, rtol=0)
    assert torch.equal(color.solarize(pictures, threshold=0.4), tv.solarize(pictures, threshold=0.4))


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter__matches_torchvision_in_every_order(channels: int) -> None:
    pictures = images(channels=channels)
    parameters = parameters_of(Recipe(jitter_probability=1, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5))
    orders = torch.tensor(list(itertools.permutations(range(4))))
    parameters = Parameters(**{name: getattr(parameters, name) for name in parameters.__slots__} | {"order": orders})
    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    expected = []
    for picture, order, factors in zip(pictures, orders.tolist(), parameters.jitter.tolist(), strict=True):
        for step in order:
            picture = steps[step](picture, factors[step])
        expected.append(picture)
    torch.testing.assert_close(color.jitter(pictures, parameters), torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_color_matrix__is_the_sequence_when_nothing_clamps(channels: int) -> None:
    # Low contrast about the middle: no step leaves [0, 1]. Hue is left out, it is another map by intent.
    pictures = 0.45 + 0.1 * images(channels=channels)
    recipe = Recipe(jitter_probability=0.9, brightness=0.3, contrast=0.4, saturation=0.4, grayscale_probability=0.3)
    parameters = parameters_of(recipe)
    matrix, bias = color.color_matrix(pictures.mean(dim=(2, 3)), parameters)
    expected = color.jitter(pictures, parameters)
    expected = torch.where(parameters.grayscale[:, None, None, None], color.grayscale(expected), expected)
    actual = (matrix @ pictures.flatten(2) + bias).view_as(pictures)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
def test_color_matrix__bands_that_are_no_colors_have_no_hue(channels: int) -> None:
    pictures = images(channels=channels)
    shifts = torch.linspace(-0.5, 0.5, 24)
    assert torch.equal(color.adjust_hue(pictures, shifts), pictures)
    matrix, bias = color.color_matrix(pictures.mean(dim=(2, 3)), parameters_of(Recipe(jitter_probability=1.0, hue=0.5)))
    torch.testing.assert_close(matrix, torch.eye(channels).expand(24, -1, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(bias, torch.zeros(24, channels, 1), atol=1e-6, rtol=0)


def test_grayscale__of_bands_is_their_mean() -> None:
    pictures = images(channels=5)
    torch.testing.assert_close(color.grayscale(pictures), pictures.mean(dim=1, keepdim=True).expand(-1, 5, -1, -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_color_matrix__is_its_four_steps_in_every_order(channels: int) -> None:
    # Strong factors, so that no order is another: each step is applied to the colors and to their mean, in float64.
    recipe = Recipe(jitter_probability=1, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5)
    parameters = replace(
        parameters_of(recipe),
        order=torch.tensor(list(itertools.permutations(range(4)))),
        grayscale=torch.arange(24) % 5 == 0,
    )
    colors, means = torch.randn(24, channels, 7, generator=torch.Generator().manual_seed(1)), torch.rand(24, channels)
    matrix, bias = color.color_matrix(means, parameters)
    luma = torch.tensor([0.2989, 0.587, 0.114] if channels == 3 else [1.0], dtype=torch.float64)
    for row, order in enumerate(parameters.order.tolist()):
        now = torch.cat((colors[row], means[row, :, None]), dim=1).double()  # the mean last
        for operation in order:
            factor = parameters.jitter[row, operation].item()
            if operation == HUE:
                axis = torch.full((channels,), channels**-0.5, dtype=torch.float64)
                turn = Rotation.from_rotvec(2 * math.pi * factor * axis.numpy()).as_matrix() if channels == 3 else 1.0
                now = torch.as_tensor(turn, dtype=torch.float64).reshape(channels, channels) @ now
            else:
                gray = {BRIGHTNESS: 0 * now, CONTRAST: luma @ now[:, -1:], SATURATION: luma @ now}[operation]
                now = factor * now + (1 - factor) * gray
        if parameters.grayscale[row]:
            now = (luma @ now).expand_as(now)
        torch.testing.assert_close(matrix[row] @ colors[row] + bias[row], now[:, :-1].float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("thirds", [-1, 0, 1])
def test_color_matrix__hue_agrees_with_hsv_at_thirds_of_the_circle(thirds: int) -> None:
    pictures = images()
    parameters = parameters_of(Recipe())
    parameters.jitter[:, 3] = thirds / 3
    matrix, bias = color.color_matrix(pictures.mean(dim=(2, 3)), parameters)
    expected = color.adjust_hue(pictures, parameters.jitter[:, 3])
    torch.testing.assert_close((matrix @ pictures.flatten(2) + bias).view_as(pictures), expected, atol=1e-5, rtol=0)


def test_color_matrix__keeps_gray_under_hue() -> None:
    parameters = parameters_of(Recipe(jitter_probability=1, hue=0.5))
    gray = torch.full((24, 3), 0.3)
    matrix, bias = color.color_matrix(gray, parameters)
    torch.testing.assert_close((matrix @ gray[:, :, None] + bias)[:, :, 0], gray)

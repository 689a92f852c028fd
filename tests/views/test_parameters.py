"""Parameters: the distributions of torchvision's own random transforms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from contrastive_cli.views.draws import uniform
from contrastive_cli.views.parameters import NUM_SLOTS, Parameters, draw_parameters
from contrastive_cli.views.recipe import Recipe


def draw(recipe: Recipe, *, height: int = 40, width: int = 40, size: int = 32, num: int = 20_000) -> Parameters:
    draws = uniform(seed=0, epoch=0, indices=torch.arange(num), views=[0], slots=NUM_SLOTS)
    return draw_parameters(recipe, draws, height=height, width=width, size=size)


def torchvision_draws(transform: Any, *, height: int = 40, width: int = 40, num: int = 2000) -> list[dict[str, Any]]:
    image = torch.zeros(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return [transform.make_params([image]) for _ in range(num)]


def assert_same_distribution(ours: Tensor, theirs: list[float]) -> None:
    assert stats.ks_2samp(ours.numpy(), np.asarray(theirs)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("height", "width", "area"),
    [(40, 40, (0.08, 1.0)), (40, 40, (0.2, 1.0)), (30, 64, (0.08, 1.0)), (64, 30, (0.5, 1.0)), (10, 60, (0.9, 1.0))],
)
def test_boxes__match_random_resized_crop(height: int, width: int, area: tuple[float, float]) -> None:
    recipe = Recipe(crop_probability=1, crop_area=area)
    top, left, box_height, box_width = draw(recipe, height=height, width=width).boxes.unbind(dim=1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + box_height <= height).all()
    assert (left + box_width <= width).all()
    theirs = torchvision_draws(v2.RandomResizedCrop(32, scale=area), height=height, width=width)
    assert_same_distribution(box_height, [box["height"] for box in theirs])
    assert_same_distribution(box_width, [box["width"] for box in theirs])
    assert_same_distribution(top, [box["top"] for box in theirs])
    assert_same_distribution(left, [box["left"] for box in theirs])
    assert_same_distribution(box_height * box_width, [box["height"] * box["width"] for box in theirs])
    assert_same_distribution(box_width.double() / box_height.double(), [box["width"] / box["height"] for box in theirs])


@pytest.mark.parametrize(("height", "width"), [(4, 90), (90, 4), (31, 31)])
def test_boxes__central_crop_when_nothing_fits(height: int, width: int) -> None:
    aspect = (3 / 4, 4 / 3) if height != width else (1.6, 1.7)
    recipe = Recipe(crop_probability=1, crop_area=(1.0, 1.0), crop_aspect=aspect)
    theirs = torchvision_draws(v2.RandomResizedCrop(8, scale=(1, 1), ratio=aspect), height=height, width=width, num=1)[
        0
    ]
    ours = draw(recipe, height=height, width=width, num=50).boxes
    expected = [theirs["top"], theirs["left"], theirs["height"], theirs["width"]]
    assert ours.tolist() == [expected] * 50


def test_jitter__matches_color_jitter() -> None:
    strengths = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.2, "hue": 0.1}
    ours = draw(Recipe.model_validate({"jitter_probability": 1, **strengths})).jitter
    theirs = torchvision_draws(v2.ColorJitter(**strengths))
    for column, name in enumerate(strengths):
        assert_same_distribution(ours[:, column], [params[f"{name}_factor"] for params in theirs])


def test_jitter__skipped_samples_hold_the_identity() -> None:
    ours = draw(Recipe(jitter_probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)).jitter
    skipped = (ours == torch.tensor([1.0, 1.0, 1.0, 0.0])).all(dim=1)
    assert 0.19 < skipped.float().mean() < 0.21


def test_order__all_permutations_are_equally_likely() -> None:
    orders = draw(Recipe()).order
    assert (orders.sort(dim=1).values == torch.arange(4)).all()
    _, counts = torch.unique(orders, dim=0, return_counts=True)
    assert len(counts) == math.factorial(4)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_affine__matches_random_affine() -> None:
    recipe = Recipe(affine_probability=1, rotation=15, shear=10, translate=0.15, scale=(0.8, 1.2))
    ours = draw(recipe, size=40)
    theirs = torchvision_draws(v2.RandomAffine(15, shear=10, translate=(0.15, 0.15), scale=(0.8, 1.2)))
    assert_same_distribution(ours.angle, [params["angle"] for params in theirs])
    assert_same_distribution(ours.shear, [params["shear"][0] for params in theirs])
    assert_same_distribution(ours.scale, [params["scale"] for params in theirs])
    for axis in range(2):
        assert_same_distribution(ours.translate[:, axis], [params["translate"][axis] for params in theirs])


def test_sigma__matches_gaussian_blur() -> None:
    theirs = torchvision_draws(v2.GaussianBlur(3, sigma=(0.1, 2.0)))
    assert_same_distribution(draw(Recipe(blur_probability=1)).sigma, [params["sigma"][0] for params in theirs])


@pytest.mark.parametrize(
    ("field", "read"),
    [
        ("flip_probability", lambda p: p.flips),
        ("grayscale_probability", lambda p: p.grayscale),
        ("blur_probability", lambda p: p.blur),
        ("solarize_probability", lambda p: p.solarize),
        ("crop_probability", lambda p: p.boxes[:, 2] < 40),
        ("affine_probability", lambda p: p.angle != 0),
        ("noise_probability", lambda p: p.noise > 0),
    ],
)
def test_probabilities__are_frequencies(field: str, read: Callable[[Parameters], Tensor]) -> None:
    settings = {"rotation": 10.0, "crop_area": (0.1, 0.4)}
    for probability in (0.0, 0.3, 1.0):
        happened = read(draw(Recipe.model_validate({field: probability, **settings}))).float().mean()
        assert abs(happened - probability) <= 0.013 * (0 < probability < 1)


def test_operations__draw_independently() -> None:
    recipe = Recipe(flip_probability=0.5, grayscale_probability=0.2, blur_probability=0.5, solarize_probability=0.2)
    ours = draw(recipe)
    flags = torch.stack((ours.flips, ours.grayscale, ours.blur, ours.solarize)).float().numpy()
    assert np.abs(np.corrcoef(flags) - np.eye(4)).max() < 4.5 / 20_000**0.5
    with_crop = draw(recipe.model_copy(update={"crop_probability": 1.0}))
    assert torch.equal(with_crop.flips, ours.flips)
    assert torch.equal(with_crop.sigma, ours.sigma)

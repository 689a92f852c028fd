"""The draws of views taken together: each field from slots of its own, no two of them tied, each use its own stream.

Marginal distributions, which other tests compare with torchvision's, stay as they are when one draw is tied to another.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from contrastive_cli.views import augment, parameters, sources
from contrastive_cli.views.augment import make_views
from contrastive_cli.views.draws import normal, uniform
from contrastive_cli.views.parameters import CROP_ATTEMPTS, NUM_SLOTS, Parameters, draw_parameters
from contrastive_cli.views.recipe import Recipe
from contrastive_cli.views.sources import view_sources

SIDE = 256  # in whole pixels a small change of a draw would not be seen
EVERYTHING = Recipe(
    crop_probability=0.5,
    flip_probability=0.5,
    affine_probability=0.5,
    rotation=30.0,
    translate=0.4,
    scale=(0.5, 2.0),
    shear=20.0,
    jitter_probability=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.2,
    grayscale_probability=0.5,
    blur_probability=0.5,
    blur_sigma=(0.1, 2.0),
    solarize_probability=0.5,
    noise_probability=0.5,
    noise_sigma=(0.01, 0.2),
)
ALWAYS = EVERYTHING.model_copy(update={name: 1.0 for name in Recipe.model_fields if name.endswith("_probability")})


def columns(found: Parameters) -> dict[str, Tensor]:
    """Every number of the parameters by its name, [N]; places of a box as a part of where it could be."""
    top, left, height, width = found.boxes.unbind(dim=1)
    named = {
        "top": (top + 0.5) / (SIDE - height + 1),
        "left": (left + 0.5) / (SIDE - width + 1),
        "area": height * width,
        "aspect": height / width,
        "x": found.translate[:, 0],
        "y": found.translate[:, 1],
        "place of hue": (found.order == 3).int().argmax(dim=1),
        **{name: found.jitter[:, number] for number, name in enumerate(("light", "contrast", "saturation", "hue"))},
    }
    for name in ("flips", "angle", "scale", "shear", "grayscale", "blur", "sigma", "solarize", "noise"):
        named[name] = getattr(found, name)
    return {name: column.double() for name, column in named.items()}


def drawn(recipe: Recipe, draws: Tensor) -> dict[str, Tensor]:
    return columns(draw_parameters(recipe, draws, height=SIDE, width=SIDE, size=SIDE))


def test_slots__are_distinct_and_all_in_use() -> None:
    several = {"_CROP_AREA": CROP_ATTEMPTS, "_CROP_ASPECT": CROP_ATTEMPTS}
    names = [name for name, value in vars(parameters).items() if name.startswith("_") and isinstance(value, int)]
    firsts = {name: int(getattr(parameters, name)) for name in names}
    used = [slot for name, first in firsts.items() for slot in range(first, first + several.get(name, 1))]
    assert sorted(used) == list(range(NUM_SLOTS))


FIELDS_OF_A_SLOT = {
    "_CROP_TOP": {"top"},
    "_CROP_LEFT": {"left"},
    "_CROP_AREA": {"top", "left", "area", "aspect"},
    "_CROP_ASPECT": {"top", "left", "area", "aspect"},
    "_FLIP": {"flips"},
    "_ANGLE": {"angle"},
    "_SHEAR": {"shear"},
    "_TRANSLATE_X": {"x"},
    "_TRANSLATE_Y": {"y"},
    "_SCALE": {"scale"},
    "_BRIGHTNESS": {"light"},
    "_CONTRAST": {"contrast"},
    "_SATURATION": {"saturation"},
    "_HUE": {"hue"},
    "_ORDER": {"place of hue"},
    "_GRAYSCALE": {"grayscale"},
    "_BLUR": {"blur"},
    "_SIGMA": {"sigma"},
    "_SOLARIZE": {"solarize"},
    "_NOISE_SIGMA": {"noise"},
    "_CROP": {"top", "left", "area", "aspect"},
    "_AFFINE": {"angle", "x", "y", "scale", "shear"},
    "_JITTER": {"light", "contrast", "saturation", "hue"},
    "_NOISE": {"noise"},
}


@pytest.mark.parametrize("slot", FIELDS_OF_A_SLOT)
def test_draw_parameters__a_slot_changes_its_own_fields_alone(slot: str) -> None:
    draws = uniform(seed=0, epoch=0, indices=torch.arange(2000), views=[0], slots=NUM_SLOTS)
    others = draws.clone()
    others[:, getattr(parameters, slot)] = uniform(
        seed=1, epoch=0, indices=torch.arange(2000), views=[0], slots=1
    )[:, 0]  # fmt: skip
    before, after = drawn(EVERYTHING, draws), drawn(EVERYTHING, others)
    changed = {name for name, column in before.items() if not torch.equal(column, after[name])}
    assert changed == FIELDS_OF_A_SLOT[slot]


def largest_correlation(
    table: dict[str, Tensor], *, besides: frozenset[frozenset[str]] = frozenset()
) -> tuple[float, str]:
    """Of the ranks of any two columns, also of how far they are from their middles."""
    found = (0.0, "")
    ranks = {name: column.numpy().argsort(kind="stable").argsort() for name, column in table.items()}
    for one, two in itertools.combinations(table, 2):
        if frozenset((one, two)) in besides:
            continue
        centered = [rank - rank.mean() for rank in (ranks[one], ranks[two])]
        for first, second in (centered, [np.abs(rank) for rank in centered]):
            found = max(found, (abs(float(np.corrcoef(first, second)[0, 1])), f"{one} and {two}"))
    return found


def test_draw_parameters__no_two_fields_of_a_view_are_tied() -> None:
    draws = uniform(seed=0, epoch=0, indices=torch.arange(20_000), views=[0], slots=NUM_SLOTS)
    table = drawn(ALWAYS, draws)
    # What happens with a probability of one is no draw.
    table = {name: column for name, column in table.items() if len(column.unique()) > 1}
    assert len(table) == 16
    worst, which = largest_correlation(table, besides=frozenset({frozenset(("area", "aspect"))}))
    assert worst < 0.04, which


def test_draw_parameters__no_two_decisions_of_a_view_are_tied() -> None:
    draws = uniform(seed=0, epoch=0, indices=torch.arange(20_000), views=[0], slots=NUM_SLOTS)
    table = drawn(EVERYTHING, draws)
    decided = {
        "crop": table["area"] != SIDE**2,
        "flip": table["flips"] > 0,
        "affine": table["scale"] != 1,
        "jitter": table["light"] != 1,
        "gray": table["grayscale"] > 0,
        "blur": table["blur"] > 0,
        "solarize": table["solarize"] > 0,
        "noise": table["noise"] > 0,
    }
    for one, two in itertools.combinations(decided, 2):
        both = (decided[one] & decided[two]).double().mean()
        apart = decided[one].double().mean() * decided[two].double().mean()
        assert abs(float(both - apart)) < 0.015, (one, two)


@pytest.mark.parametrize(
    "other", [{"views": [1]}, {"epoch": 1}, {"seed": 1}, {"stream": 1}, {"indices": torch.arange(1, 20_001)}]
)
def test_uniform__views_epochs_seeds_streams_and_samples_are_not_tied(other: dict[str, object]) -> None:
    counters = {"seed": 0, "epoch": 0, "indices": torch.arange(20_000), "views": [0], "slots": 3}
    first, second = uniform(**counters), uniform(**{**counters, **other})  # type: ignore[arg-type]
    for one, two in itertools.product(first.T, second.T):
        assert abs(float(torch.corrcoef(torch.stack((one, two)))[0, 1])) < 0.04


def test_streams__of_crops_noise_and_neighbors_are_distinct() -> None:
    assert len({0, augment._NOISE_STREAM, sources._STREAM}) == 3


def test_view_sources__which_image_is_shown_says_nothing_of_its_crop() -> None:
    count, several = 20_000, 4
    indices = torch.arange(count)
    neighbors = (indices[:, None] + torch.arange(1, several + 1)) % count
    shown = view_sources(indices, neighbors=neighbors, probabilities=[0.5, 0.5], seed=0, epoch=0)
    rank = (shown - indices) % count  # 0 for the image itself
    crops = uniform(seed=0, epoch=0, indices=indices, views=[0, 1], slots=NUM_SLOTS).chunk(2)
    noise = uniform(seed=0, epoch=0, indices=indices, views=[0, 1], slots=4, stream=augment._NOISE_STREAM).chunk(2)
    for ranks, *draws in zip(rank.double(), crops, noise, strict=True):
        for column in torch.cat(draws, dim=1).T.double():
            for chosen in (ranks, (ranks > 0).double()):
                assert abs(float(torch.corrcoef(torch.stack((chosen, column)))[0, 1])) < 0.04
    whether = (rank > 0).double()
    assert abs(float(torch.corrcoef(whether)[0, 1])) < 0.04  # of the two views
    among = rank[0][rank[0] > 0]
    assert np.abs(np.bincount(among.numpy())[1:] / len(among) - 1 / several).max() < 0.02


def noise_of(*, count: int = 300, side: int = 8, **counters: int) -> Tensor:
    """The noise [V, B, C * S * S] of two views of gray images, in units of its sigma."""
    recipe = Recipe(noise_probability=1.0, noise_sigma=(0.05, 0.05))
    images = torch.full((2, count, 3, side, side), 128, dtype=torch.uint8)
    views = make_views(
        images, recipes=[recipe] * 2, indices=torch.arange(count), size=side, mean=[0.5] * 3, std=[0.05] * 3,
        **{"seed": 0, "epoch": 0, **counters},
    )  # fmt: skip
    return views.flatten(2).double() - (128 / 255 - 0.5) / 0.05


def tie(one: Tensor, two: Tensor) -> float:
    return abs(float(torch.corrcoef(torch.stack((one.flatten(), two.flatten())))[0, 1]))


def test_noise__of_views_samples_pixels_and_epochs_is_not_tied() -> None:
    noise = noise_of()
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert tie(noise[0], noise[1]) < 0.02
    assert tie(noise[0, 1:], noise[0, :-1]) < 0.02
    assert tie(noise[0, :, 1:], noise[0, :, :-1]) < 0.02
    assert tie(noise, noise_of(epoch=1)) < 0.02
    assert tie(noise, noise_of(seed=1)) < 0.02
    channels = noise.view(2, 300, 3, -1)
    assert tie(channels[:, :, 0], channels[:, :, 1]) < 0.02


def test_noise__is_not_made_of_the_draws_of_the_parameters() -> None:
    indices = torch.arange(300)
    for stream in (0, sources._STREAM):
        tied = normal(seed=0, epoch=0, indices=indices, views=[0], slots=NUM_SLOTS, stream=stream).double()
        assert tie(noise_of()[0, :, :NUM_SLOTS], tied) < 0.04


def test_make_views__each_view_has_draws_of_its_own() -> None:
    """With equal recipes in one pass and with different ones in a pass each, and when a view is made alone."""
    recipe = Recipe(crop_probability=1.0, crop_area=(0.2, 1.0), flip_probability=0.5)
    other = recipe.model_copy(update={"flip_probability": 0.4})
    images = torch.randint(0, 256, (1, 50, 3, 16, 16), dtype=torch.uint8).expand(3, -1, -1, -1, -1)
    common = {"indices": torch.arange(50), "size": 16, "mean": [0.5] * 3, "std": [0.2] * 3, "seed": 0, "epoch": 0}
    equal = make_views(images, recipes=[recipe] * 3, **common)  # type: ignore[arg-type]
    mixed = make_views(images, recipes=[recipe, other, recipe], **common)  # type: ignore[arg-type]
    alone = make_views(images[:1], recipes=[recipe], first_view=2, **common)  # type: ignore[arg-type]
    for one, two in itertools.combinations(equal, 2):
        assert not any(torch.equal(first, second) for first, second in zip(one, two, strict=True))
    torch.testing.assert_close(mixed[[0, 2]], equal[[0, 2]])
    torch.testing.assert_close(alone[0], equal[2])

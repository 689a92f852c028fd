"""From uniform numbers to the parameters of every operation, one row per view, distributed as in torchvision."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from contrastive_cli.views.recipe import Recipe

CROP_ATTEMPTS = 10
# Every quantity has its own slots, so switching one operation on leaves the draws of the others as they were.
_CROP, _CROP_AREA, _CROP_ASPECT, _CROP_TOP, _CROP_LEFT = 0, 1, 1 + CROP_ATTEMPTS, 21, 22
_FLIP, _AFFINE, _ANGLE, _SHEAR, _TRANSLATE_X, _TRANSLATE_Y, _SCALE = range(23, 30)
_JITTER, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _ORDER = range(30, 36)
_GRAYSCALE, _BLUR, _SIGMA, _SOLARIZE = range(36, 40)
_NOISE, _NOISE_SIGMA = range(40, 42)
NUM_SLOTS = 42
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """One row per view; a sample that an operation skips holds the value that changes nothing.

    Attributes:
        boxes: [N, 4] float32, whole pixels: top, left, height, width.
        flips: [N] bool.
        angle: [N] degrees, clockwise.
        translate: [N, 2] whole pixels, x then y.
        scale: [N] zoom.
        shear: [N] degrees along x.
        jitter: [N, 4] brightness, contrast and saturation factors, and the shift of hue in [-0.5, 0.5].
        order: [N, 4] int64, the order of the four; 0 brightness, 1 contrast, 2 saturation, 3 hue.
        grayscale: [N] bool.
        blur: [N] bool.
        sigma: [N] pixels.
        solarize: [N] bool.
        noise: [N] sigma, of an image in [0, 1].
    """

    boxes: Tensor
    flips: Tensor
    angle: Tensor
    translate: Tensor
    scale: Tensor
    shear: Tensor
    jitter: Tensor
    order: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor
    noise: Tensor


def draw_parameters(recipe: Recipe, draws: Tensor, *, height: int, width: int, size: int) -> Parameters:
    """The parameters of N views.

    Args:
        recipe: Probabilities and strengths.
        draws: [N, NUM_SLOTS] uniform in [0, 1).
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        size: Side of the views, in pixels; translation is a part of it.
    """
    chances, lows, spans = _tables(recipe, size, draws.device)
    happens, values = draws < chances, (draws * spans).add_(lows)  # [N, NUM_SLOTS]; a slot is one or the other
    move = happens[:, _AFFINE]
    return Parameters(
        boxes=_draw_boxes(recipe, draws, height=height, width=width),
        flips=happens[:, _FLIP],
        angle=values[:, _ANGLE] * move,
        translate=values[:, _TRANSLATE_X : _TRANSLATE_Y + 1].round() * move[:, None],
        scale=torch.where(move, values[:, _SCALE], 1.0),
        shear=values[:, _SHEAR] * move,
        jitter=torch.where(happens[:, _JITTER, None], values[:, _BRIGHTNESS : _HUE + 1], _no_jitter(draws.device)),
        order=_orders(draws.device)[(draws[:, _ORDER] * 24).long()],
        grayscale=happens[:, _GRAYSCALE],
        blur=happens[:, _BLUR],
        sigma=values[:, _SIGMA],
        solarize=happens[:, _SOLARIZE],
        noise=values[:, _NOISE_SIGMA] * happens[:, _NOISE],
    )


@lru_cache(maxsize=32)
def _tables(recipe: Recipe, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """[NUM_SLOTS] each: the probability of what a slot decides; the least of the numbers it gives, and their span."""
    probabilities = {
        _CROP: recipe.crop_probability,
        _FLIP: recipe.flip_probability,
        _AFFINE: recipe.affine_probability,
        _JITTER: recipe.jitter_probability,
        _GRAYSCALE: recipe.grayscale_probability,
        _BLUR: recipe.blur_probability,
        _SOLARIZE: recipe.solarize_probability,
        _NOISE: recipe.noise_probability,
    }
    pixels = recipe.translate * size
    ranges = {
        _ANGLE: (-recipe.rotation, recipe.rotation),
        _SHEAR: (-recipe.shear, recipe.shear),
        _TRANSLATE_X: (-pixels, pixels),
        _TRANSLATE_Y: (-pixels, pixels),
        _SCALE: recipe.scale,
        _BRIGHTNESS: (max(0.0, 1 - recipe.brightness), 1 + recipe.brightness),
        _CONTRAST: (max(0.0, 1 - recipe.contrast), 1 + recipe.contrast),
        _SATURATION: (max(0.0, 1 - recipe.saturation), 1 + recipe.saturation),
        _HUE: (-recipe.hue, recipe.hue),
        _SIGMA: recipe.blur_sigma,
        _NOISE_SIGMA: recipe.noise_sigma,
    }
    chances, lows, spans = torch.zeros(3, NUM_SLOTS).unbind()
    for slot, probability in probabilities.items():
        chances[slot] = probability
    for slot, (low, high) in ranges.items():
        lows[slot], spans[slot] = low, high - low
    return chances.to(device), lows.to(device), spans.to(device)


def _draw_boxes(recipe: Recipe, draws: Tensor, *, height: int, width: int) -> Tensor:
    """All attempts of torchvision's RandomResizedCrop at once; the first that fits counts, else its central crop."""
    whole = draws.new_tensor([0, 0, height, width])
    if recipe.crop_probability == 0:
        return whole.expand(len(draws), 4)
    low, high = recipe.crop_aspect
    area = _between(draws[:, _CROP_AREA : _CROP_AREA + CROP_ATTEMPTS], *recipe.crop_area) * (height * width)
    log_aspect = _between(draws[:, _CROP_ASPECT : _CROP_ASPECT + CROP_ATTEMPTS], math.log(low), math.log(high))
    aspect = log_aspect.exp()
    widths, heights = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()  # [N, attempts]
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    box_height, box_width = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
    top = (draws[:, _CROP_TOP] * (height - box_height + 1)).floor()
    left = (draws[:, _CROP_LEFT] * (width - box_width + 1)).floor()
    central = draws.new_tensor(_central_box(height, width, aspect=recipe.crop_aspect))
    boxes = torch.stack((top, left, box_height, box_width), dim=1)
    boxes = torch.where(fits.any(dim=1, keepdim=True), boxes, central)
    return torch.where(draws[:, _CROP, None] < recipe.crop_probability, boxes, whole)


def _central_box(height: int, width: int, *, aspect: tuple[float, float]) -> tuple[int, int, int, int]:
    box_height, box_width = height, width
    if width / height < aspect[0]:
        box_height = round(width / aspect[0])
    elif width / height > aspect[1]:
        box_width = round(height * aspect[1])
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def _between(draws: Tensor, low: float, high: float) -> Tensor:
    return draws * (high - low) + low


@lru_cache(maxsize=8)
def _orders(device: torch.device) -> Tensor:
    return torch.tensor(list(itertools.permutations(range(4))), device=device)  # [24, 4]


@lru_cache(maxsize=8)
def _no_jitter(device: torch.device) -> Tensor:
    return torch.tensor([1.0, 1.0, 1.0, 0.0], device=device)
